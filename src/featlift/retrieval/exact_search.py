"""Exact (brute-force) search: the default up to several hundred thousand vectors, and the reference for approximate search."""

from typing import NamedTuple

import torch
from torch import Tensor

from featlift.retrieval.vector_store import VectorStore


class SearchResults(NamedTuple):
    """Search results for Q queries, best first: ``names[q][k]``, ``rows [Q, K]`` and cosines ``scores [Q, K]``."""

    names: list[list[str]]
    rows: Tensor
    scores: Tensor


def exact_search(store: VectorStore, queries: Tensor, k: int, batch_size: int = 65536) -> SearchResults:
    """Return the ``k`` nearest vectors of ``store`` to each unit vector of ``queries [Q, D]``; all of them if there are fewer.

    Reads ``batch_size`` vectors at a time, so memory is ``batch_size·(D + Q)`` numbers, independent of the size of the store.
    Equal scores are sorted by row.

    Raises:
        ValueError: If the store is empty or the dimensions differ.
    """
    check_queries(store, queries)
    k = min(k, len(store))
    scores, rows = queries.new_empty(len(queries), 0), torch.empty(len(queries), 0, dtype=torch.long)
    removed = torch.tensor(sorted(store.removed), dtype=torch.long)
    for start, vectors in store.iter_batches(batch_size=batch_size):
        batch_scores = queries @ vectors.T
        removed_columns = removed[(removed >= start) & (removed < start + len(vectors))] - start
        batch_scores[:, removed_columns] = -torch.inf
        scores = torch.cat([scores, batch_scores], dim=1)
        rows = torch.cat([rows, torch.arange(start, start + len(vectors)).expand(len(queries), -1)], dim=1)
        scores, rows = top_k(scores, rows, k)
    return build_search_results(store, scores, rows)


def top_k(scores: Tensor, rows: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return the ``k`` highest of ``scores [Q, M]`` and their ``rows``, both ``[Q, k]``, highest first."""
    top_scores, columns = scores.topk(min(k, scores.shape[1]), dim=1)
    return top_scores, rows.gather(1, columns)


def build_search_results(store: VectorStore, scores: Tensor, rows: Tensor) -> SearchResults:
    """Build results from ``scores [Q, K]`` and ``rows [Q, K]``, with the names from ``store``."""
    return SearchResults([[store.names[row] for row in query_rows] for query_rows in rows.tolist()], rows, scores)


def check_queries(store: VectorStore, queries: Tensor) -> None:
    """Check that ``store`` has vectors and ``queries`` the shape ``[Q, D]``.

    Raises:
        ValueError: If ``store`` is empty or ``queries`` is not ``[Q, D]`` with the store's D.
    """
    if not len(store):
        raise ValueError(f"{store.folder} is empty; add vectors first.")
    if queries.ndim != 2 or queries.shape[1] != store.dimension:
        raise ValueError(f"Queries have shape {tuple(queries.shape)}; this index needs [Q, {store.dimension}].")
