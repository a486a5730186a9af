"""Exact (brute-force) search: the default up to several hundred thousand vectors, and the reference for approximate search."""

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from featlift.retrieval.candidates import ScoredPairs, find_candidates
from featlift.retrieval.unit_vectors import check_unit_vectors, exact_cosines
from featlift.retrieval.vector_store import BATCH_SIZE, VectorStore

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_TAKEN = 8192
"""Vectors of pairs in memory at a time."""
PAIR_GROUP = 128
"""Pairs compared in float64 at a time, in the processor's cache."""


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
    best = _BestRows(check_queries(store, queries), k)
    for rows, vectors in store.iter_batches(where, batch_size):
        best.add(rows, vectors.numpy().T)
    return build_search_results(store, *best.results())


class MemoryIndex:
    """The vectors of ``store`` in memory, as float32, for many exact searches; 4·D bytes per vector.

    They are stored as the columns of a matrix ``[D, N]``: its product with one query reads long rows one after the other, which is faster
    than N short products.
    """

    def __init__(self, store: VectorStore):
        self.store = store
        self.refresh()

    def refresh(self) -> None:
        """Read the store again."""
        self.store.refresh()
        size = len(self.store)
        self._rows, self._vectors = np.empty(size, np.int64), np.empty((self.store.dimension, size), np.float32)
        start = 0
        for rows, vectors in self.store.iter_batches():
            part = slice(start, start := start + len(rows))
            self._rows[part], self._vectors[:, part] = rows, vectors.numpy().T

    def search(self, queries: Tensor, k: int) -> SearchResults:
        """Return the same as `exact_search`, with the same errors."""
        best = _BestRows(check_queries(self.store, queries), k)
        best.add(self._rows, self._vectors)
        return build_search_results(self.store, *best.results())


class _BestRows:
    """The ``k`` best rows of the vectors given so far for each of ``queries [Q, D]``."""

    def __init__(self, queries: Tensor, k: int):
        self.queries, self.k = queries, k
        self.floor = np.full(len(queries), -np.inf, np.float32)
        self.found = ScoredPairs.empty()

    def add(self, rows: "NDArray[np.int64]", vectors: "NDArray[np.float32]") -> None:
        """Compare the queries with ``vectors [D, N]`` of ``rows [N]``."""
        pairs = find_candidates(self.queries.numpy(), vectors, self.k, self.floor)
        pairs = pairs.select(np.argsort(pairs.vector))  # reads the memory in order
        scores = []
        for start in range(0, len(pairs.query), MAX_TAKEN):
            part = slice(start, start + MAX_TAKEN)
            taken = torch.from_numpy(vectors[:, pairs.vector[part]].T)
            groups = zip(torch.from_numpy(pairs.query[part]).split(PAIR_GROUP), taken.split(PAIR_GROUP), strict=True)
            scores += [exact_cosines(self.queries[q], v[:, None])[:, 0].numpy() for q, v in groups]
        exact = ScoredPairs(pairs.query, rows[pairs.vector], np.concatenate([pairs.score[:0], *scores]))
        self.found = ScoredPairs.join([self.found, exact]).best(self.k)
        self.floor = self.found.raise_floor(self.floor, self.k)

    def results(self) -> tuple[Tensor, Tensor]:
        """Return scores and rows, both ``[Q, K]``."""
        shape = (len(self.queries), len(self.found.query) // max(1, len(self.queries)))
        return torch.from_numpy(self.found.score).view(shape), torch.from_numpy(self.found.vector).view(shape)


def build_search_results(store: VectorStore, scores: Tensor, rows: Tensor) -> SearchResults:
    """Build results from ``scores [Q, K]`` and ``rows [Q, K]``, with the names from ``store``."""
    names, size = store.names_of(rows.flatten().tolist()), rows.shape[1]
    return SearchResults([names[i * size : (i + 1) * size] for i in range(len(rows))], rows, scores)


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
