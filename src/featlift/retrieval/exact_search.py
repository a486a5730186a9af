"""Exact search: every vector is compared. The default up to some hundred thousand, and the judge of everything
faster.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from featlift.retrieval.vector_store import VectorStore


class SearchResults(NamedTuple):
    """What was found for Q queries, best first: ``names[q][k]``, ``rows [Q, K]`` and cosines ``scores [Q, K]``."""

    names: list[list[str]]
    rows: Tensor
    scores: Tensor


def exact_search(store: VectorStore, queries: Tensor, k: int, batch_size: int = 65536) -> SearchResults:
    """The ``k`` nearest of ``store`` to each of the unit vectors ``queries [Q, D]``, all of them if there are fewer.

    Reads ``batch_size`` vectors at a time, so memory is ``block·(D + Q)`` numbers whatever the size of the store. Equal
    scores go by row.

    Raises:
        ValueError: if the store is empty or the dimensions differ.
    """
    check_queries(store, queries)
    k = min(k, len(store))
    scores, rows = queries.new_empty(len(queries), 0), torch.empty(len(queries), 0, dtype=torch.long)
    removed = torch.tensor(sorted(store.removed), dtype=torch.long)
    for start, vectors in store.iter_batches(batch_size=batch_size):
        here = queries @ vectors.T
        gone = removed[(removed >= start) & (removed < start + len(vectors))] - start
        here[:, gone] = -torch.inf
        scores = torch.cat([scores, here], dim=1)
        rows = torch.cat([rows, torch.arange(start, start + len(vectors)).expand(len(queries), -1)], dim=1)
        scores, rows = top_k(scores, rows, k)
    return build_search_results(store, scores, rows)


def top_k(scores: Tensor, rows: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The ``k`` highest of ``scores [Q, M]`` and their ``rows [Q, M]``, highest first."""
    top, places = scores.topk(min(k, scores.shape[1]), dim=1)
    return top, rows.gather(1, places)


def build_search_results(store: VectorStore, scores: Tensor, rows: Tensor) -> SearchResults:
    """``rows [Q, K]`` with their names."""
    return SearchResults([[store.names[row] for row in line] for line in rows.tolist()], rows, scores)


def check_queries(store: VectorStore, queries: Tensor) -> None:
    """Raises:
    ValueError: if ``store`` is empty or ``queries`` is not ``[Q, D]`` with its D.
    """
    if not len(store):
        raise ValueError(f"{store.folder} is empty; add vectors first.")
    if queries.ndim != 2 or queries.shape[1] != store.dimension:
        raise ValueError(f"Queries have shape {tuple(queries.shape)}; this index needs [Q, {store.dimension}].")
