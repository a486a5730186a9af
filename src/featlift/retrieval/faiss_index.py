"""Approximate search: FAISS retrieves candidates, which are reranked by their exact vectors.

The FAISS index is stored in the folder of a :class:`VectorStore` and can always be rebuilt from it. Its ids are the
store's rows, so its size tells where an interrupted build resumes.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from featlift.checkpoints.atomic import write_atomic
from featlift.registry import check_choice
from featlift.retrieval.exact_search import SearchResults, build_search_results, check_queries, top_k
from featlift.retrieval.vector_store import VectorStore

INDEX_FACTORY_STRINGS: dict[str, Callable[[int, int], str]] = {
    "flat": lambda dimension, nlist: "Flat",
    "ivf-flat": lambda dimension, nlist: f"IVF{nlist},Flat",
    "ivf-pq": lambda dimension, nlist: f"IVF{nlist},PQ{_num_subquantizers(dimension)}x4fs",
    "ivf-rabitq": lambda dimension, nlist: f"IVF{nlist},RaBitQ",
    "hnsw": lambda dimension, nlist: "HNSW32,Flat",
}
"""Index type → FAISS factory string. Bytes per vector of D numbers: flat and hnsw 4·D (hnsw 256 more), ivf-pq D/4
(at most 128; 4-bit codes, since 8-bit codes take minutes to train), ivf-rabitq D/8 + 8."""

MIN_POINTS_PER_CENTROID = 39
"""Vectors per centroid below which FAISS's k-means prints a warning."""


class FaissIndex:
    """A FAISS index over a :class:`VectorStore`.

    Args:
        store: Exact vectors, used to build the index and to rerank candidates.
        index_type: A key of :data:`INDEX_FACTORY_STRINGS`. "ivf-rabitq" is the smallest and fastest to build; "hnsw" needs no training.
        nlist: Number of cells of an IVF index; 4·√N by default, fewer for small stores.

    Raises:
        ValueError: If ``index_type`` is unknown.
        ImportError: If FAISS is not installed.
    """

    def __init__(self, store: VectorStore, index_type: str = "ivf-rabitq", nlist: int | None = None):
        check_choice(index_type, INDEX_FACTORY_STRINGS, "index_type")
        self.store, self.index_type, self.nlist = store, index_type, nlist
        self.path = Path(store.folder) / f"{index_type}.faiss"
        self.faiss = _import_faiss()
        self._index: Any = None

    def build(self, batch_size: int = 65536, max_training_vectors: int = 262144) -> int:
        """Add all rows that are not indexed yet, ``batch_size`` at a time, and return their number.

        The file is written whenever the index has grown by 50 % and at the end; an interrupted build resumes from it.
        The training vectors (at most ``max_training_vectors``) are sampled evenly from the store.

        Raises:
            ValueError: If the store is empty.
        """
        check_queries(self.store, torch.empty(0, self.store.dimension))
        index = self.faiss.read_index(str(self.path)) if self.path.exists() else self._train_index(max_training_vectors)
        before = saved = index.ntotal
        for _, vectors in self.store.iter_batches(start=before, batch_size=batch_size):
            index.add(vectors.numpy())
            if index.ntotal > 1.5 * max(saved, 1):
                self._write_index(index)
                saved = index.ntotal
        if index.ntotal > saved:
            self._write_index(index)
        self._index = None
        return index.ntotal - before

    def _train_index(self, max_training_vectors: int) -> Any:
        num_rows = self.store.num_rows
        nlist = self.nlist or max(1, min(int(4 * num_rows**0.5), num_rows // MIN_POINTS_PER_CENTROID))
        factory_string = INDEX_FACTORY_STRINGS[self.index_type](self.store.dimension, nlist)
        index = self.faiss.index_factory(self.store.dimension, factory_string, self.faiss.METRIC_INNER_PRODUCT)
        if not index.is_trained:
            rows = np.linspace(0, num_rows - 1, min(num_rows, max_training_vectors)).astype(np.int64)
            index.train(self.store.take(rows.tolist()).numpy())
        return index

    def _write_index(self, index: Any) -> None:
        write_atomic(self.path, lambda path: self.faiss.write_index(index, str(path)))

    def search(self, queries: Tensor, k: int, k_factor: int = 10, nprobe: int = 32) -> SearchResults:
        """Return the approximate ``k`` nearest neighbors of each unit vector of ``queries [Q, D]``.

        FAISS returns ``k_factor · k`` candidates (from ``nprobe`` cells), which are reranked by their exact vectors. Rows added
        after the last :meth:`build` are compared exactly.

        Raises:
            FileNotFoundError: Before the first :meth:`build`.
            ValueError: As in :func:`featlift.retrieval.exact_search.exact_search`.
        """
        check_queries(self.store, queries)
        index = self._load_index()
        _, rows = index.search(
            queries.numpy(), k_factor * k, params=self._search_parameters(index, nprobe, k_factor * k)
        )
        rows = self._append_unindexed(torch.from_numpy(rows), index.ntotal)
        scores = torch.stack(
            [self._exact_scores(query, query_rows) for query, query_rows in zip(queries, rows, strict=True)]
        )
        scores, rows = top_k(scores, rows, min(k, len(self.store)))
        return build_search_results(self.store, scores, rows)

    def _load_index(self) -> Any:
        if self._index is None:
            if not self.path.exists():
                raise FileNotFoundError(f"{self.path} does not exist; call build() first.")
            self._index = self.faiss.read_index(str(self.path), self.faiss.IO_FLAG_MMAP)
        return self._index

    def _search_parameters(self, index: Any, nprobe: int, num_candidates: int) -> Any:
        """Search parameters for the index type, with a selector that excludes removed rows."""
        removed = np.array(sorted(self.store.removed), dtype=np.int64)
        selector = {"sel": self.faiss.IDSelectorNot(self.faiss.IDSelectorBatch(removed))} if len(removed) else {}
        if self.index_type == "hnsw":
            return self.faiss.SearchParametersHNSW(efSearch=max(64, num_candidates), **selector)
        if self.index_type == "flat":
            return self.faiss.SearchParameters(**selector)
        class_names = {"ivf-pq": "IVFPQSearchParameters", "ivf-rabitq": "IVFRaBitQSearchParameters"}
        return getattr(self.faiss, class_names.get(self.index_type, "SearchParametersIVF"))(
            nprobe=min(nprobe, index.nlist), **selector
        )

    def _append_unindexed(self, rows: Tensor, num_indexed: int) -> Tensor:
        unindexed = [row for row in range(num_indexed, self.store.num_rows) if row not in self.store.removed]
        return torch.cat([rows, torch.tensor(unindexed, dtype=torch.long).expand(len(rows), -1)], dim=1)

    def _exact_scores(self, query: Tensor, rows: Tensor) -> Tensor:
        """Exact cosines; row -1 (FAISS's padding when it returns fewer results) scores -inf."""
        vectors = self.store.take(rows.clamp(min=0).tolist())
        return (vectors @ query).masked_fill(rows < 0, -torch.inf)


def _num_subquantizers(dimension: int) -> int:
    """Number of 4-bit subquantizers of a product quantizer: the largest divisor of D that is at most D/2 and 256."""
    return next(number for number in range(min(256, max(1, dimension // 2)), 0, -1) if dimension % number == 0)


def _import_faiss() -> Any:
    try:
        import faiss
    except ImportError as error:
        raise ImportError(
            "Approximate search needs FAISS: pip install 'featlift[retrieval]'. Exact search does not."
        ) from error
    return faiss
