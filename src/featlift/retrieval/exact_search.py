"""Exact (brute-force) search: the default up to several hundred thousand vectors, and the reference for approximate search."""

from typing import NamedTuple

import torch
from torch import Tensor

from featlift.retrieval.unit_vectors import check_unit_vectors, exact_cosines, sort_best_first
from featlift.retrieval.vector_store import BATCH_SIZE, VectorStore

MARGIN = 1e-5
"""Scores of float32 products that are this close are compared in float64; the error of unit vectors is smaller."""
MAX_SCORES = 1 << 26
QUERY_GROUP = 64
SET_SIZE = 64
EXTRA = 16
"""Scores below the k-th that are looked at before all are compared with it."""


class SearchResults(NamedTuple):
    """Search results for Q queries, best first: ``names[q][k]``, ``rows [Q, K]`` and cosines ``scores [Q, K]``."""

    names: list[list[str]]
    rows: Tensor
    scores: Tensor


def exact_search(
    store: VectorStore, queries: Tensor, k: int, batch_size: int = BATCH_SIZE, where: str = ""
) -> SearchResults:
    """Return the ``k`` nearest vectors of ``store`` to each unit vector of ``queries [Q, D]``; all of them if there are fewer.

    Reads ``batch_size`` vectors at a time, so memory is ``batch_size·(D + Q)`` numbers, independent of the size of the store;
    `MemoryIndex` reads them once for many searches. Equal scores are sorted by row.

    Args:
        store: Vectors.
        queries: Queries of any type of numbers.
        k: Number of results per query.
        batch_size: Vectors in memory.
        where: Condition in SQL, see `VectorStore.iter_batches`; only its vectors are compared.

    Raises:
        ValueError: If the store is empty, the dimensions differ, or a query is no unit vector.
    """
    unit_queries = check_queries(store, queries)
    best = _BestRows(len(queries), k)
    for rows, vectors in store.iter_batches(where, min(batch_size, max(k, MAX_SCORES // max(1, len(queries))))):
        best.add(torch.from_numpy(rows), vectors, unit_queries)
    return build_search_results(store, best.scores, best.rows)


class MemoryIndex:
    """The vectors of ``store`` in memory, as float32, for many exact searches; 4·D bytes per vector."""

    def __init__(self, store: VectorStore):
        self.store = store
        self.refresh()

    def refresh(self) -> None:
        """Read the store again."""
        self.store.refresh()
        batches = list(self.store.iter_batches())
        self._rows = (
            torch.cat([torch.from_numpy(rows.copy()) for rows, _ in batches]) if batches else torch.empty(0).long()
        )
        self._vectors = (
            torch.cat([vectors for _, vectors in batches]) if batches else torch.empty(0, self.store.dimension)
        )

    def search(self, queries: Tensor, k: int) -> SearchResults:
        """Return the same as `exact_search`, with the same errors."""
        unit_queries = check_queries(self.store, queries)
        best = _BestRows(len(queries), k)
        size = max(k, MAX_SCORES // max(1, len(queries)))
        for rows, vectors in zip(self._rows.split(size), self._vectors.split(size), strict=True):
            best.add(rows, vectors, unit_queries)
        return build_search_results(self.store, best.scores, best.rows)


class _BestRows:
    """The ``k`` best ``rows [Q, K]`` of the vectors given so far and their ``scores [Q, K]``, best first."""

    def __init__(self, num_queries: int, k: int):
        self.k = k
        self.scores, self.rows = torch.empty(num_queries, 0), torch.empty(num_queries, 0, dtype=torch.long)

    def add(self, rows: Tensor, vectors: Tensor, queries: Tensor) -> None:
        """Compare ``queries [Q, D]`` with ``vectors [N, D]`` of ``rows [N]``."""
        if not len(rows):
            return
        columns = _candidates(_products(queries, vectors), self.k)
        groups = zip(queries.split(QUERY_GROUP), columns.split(QUERY_GROUP), strict=True)
        scores = torch.cat([exact_cosines(q, vectors[c]) for q, c in groups])
        scores, rows = torch.cat([self.scores, scores], dim=1), torch.cat([self.rows, rows[columns]], dim=1)
        self.scores, self.rows = sort_best_first(scores, rows, self.k)


def _products(queries: Tensor, vectors: Tensor) -> Tensor:
    """Return ``queries [Q, D] @ vectors [N, D].T`` by NumPy, whose OpenBLAS is faster than PyTorch's MKL on many processors."""
    return torch.from_numpy(queries.numpy() @ vectors.numpy().T)


def _candidates(scores: Tensor, k: int) -> Tensor:
    """Return the columns of the ``k`` highest of ``scores [Q, N]``, and of all that may be equal to the last, ``[Q, M]``.

    Sets of `SET_SIZE` columns are compared by their maxima first, which reads the scores once. The k-th highest maximum is not above the
    k-th highest score, so that all candidates are in sets whose maximum reaches it, which are few.
    """
    num_sets = scores.shape[1] // SET_SIZE
    if num_sets <= 2 * k or not len(scores):
        return _top_candidates(scores, k)
    maxima = scores[:, : num_sets * SET_SIZE].unflatten(1, (SET_SIZE, num_sets)).amax(dim=1)
    sets = _top_candidates(maxima, k)
    columns = (sets[:, :, None] + torch.arange(SET_SIZE) * num_sets).flatten(1)
    rest = torch.arange(num_sets * SET_SIZE, scores.shape[1]).expand(len(scores), -1)
    columns = torch.cat([columns, rest], dim=1)
    return columns.gather(1, _top_candidates(scores.gather(1, columns), k))


def _top_candidates(scores: Tensor, k: int) -> Tensor:
    """Return the same as `_candidates`, by sorting."""
    best = scores.topk(min(k + EXTRA, scores.shape[1]), dim=1)
    worst = best.values[:, min(k, scores.shape[1]) - 1, None] - MARGIN
    if best.values.shape[1] == scores.shape[1]:
        return best.indices
    if (best.values[:, -1:] < worst).all():
        return best.indices[:, : int((best.values >= worst).sum(dim=1).max())]
    return scores.topk(int((scores >= worst).sum(dim=1).max()), dim=1).indices


def build_search_results(store: VectorStore, scores: Tensor, rows: Tensor) -> SearchResults:
    """Build results from ``scores [Q, K]`` and ``rows [Q, K]``, with the names from ``store``."""
    return SearchResults([store.names_of(query_rows) for query_rows in rows.tolist()], rows, scores)


def check_queries(store: VectorStore, queries: Tensor) -> Tensor:
    """Return ``queries`` as float32.

    Raises:
        ValueError: If ``store`` is empty, or ``queries`` are no unit vectors ``[Q, D]`` with the store's D.
    """
    if not len(store):
        raise ValueError(f"{store.folder} is empty; add vectors first.")
    if queries.ndim != 2 or queries.shape[1] != store.dimension:
        raise ValueError(f"Queries have shape {tuple(queries.shape)}; this index needs [Q, {store.dimension}].")
    return check_unit_vectors(queries, "Query")
