"""Search that does not look at everything: FAISS finds candidates, the exact vectors put them in order.

A FAISS index stands beside the pieces of a :class:`VectorStore` and can always be made again from them. Its numbers are
the store's rows, so the count of what it holds says where an interrupted building goes on.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from featlift.retrieval.exact_search import SearchResults, build_search_results, check_queries, top_k
from featlift.retrieval.vector_store import VectorStore

INDEX_FACTORY_STRINGS: dict[str, Callable[[int, int], str]] = {
    "flat": lambda dimension, cells: "Flat",
    "ivf-flat": lambda dimension, cells: f"IVF{cells},Flat",
    "ivf-pq": lambda dimension, cells: f"IVF{cells},PQ{_num_subquantizers(dimension)}x4fs",
    "ivf-rabitq": lambda dimension, cells: f"IVF{cells},RaBitQ",
    "hnsw": lambda dimension, cells: "HNSW32,Flat",
}
"""Kinds of FAISS index → its recipe. Bytes for each vector of D numbers: flat and hnsw 4·D (hnsw 256 more), ivf-pq D/4
(at most 128; codes of 4 bits, since those of 8 take minutes to train), ivf-rabitq D/8 + 8."""

MIN_POINTS_PER_CENTROID = 39
"""Vectors per cell below which FAISS's k-means complains."""


class FaissIndex:
    """A FAISS index over a store.

    Args:
        store: the vectors; they stay the truth, and order the candidates.
        index_type: a name of :data:`INDEX_FACTORY_STRINGS`. "ivf-rabitq" is the smallest and quickest to build, "hnsw" needs no training.
        nlist: of the inverted file; by default 4·√N, fewer for few vectors.

    Raises:
        ValueError: if the kind is unknown.
        ImportError: if FAISS is not installed.
    """

    def __init__(self, store: VectorStore, index_type: str = "ivf-rabitq", nlist: int | None = None):
        if index_type not in INDEX_FACTORY_STRINGS:
            raise ValueError(f"Unknown kind of index '{index_type}'; choose one of {', '.join(INDEX_FACTORY_STRINGS)}.")
        self.store, self.index_type, self.nlist = store, index_type, nlist
        self.path = Path(store.folder) / f"{index_type}.faiss"
        self.faiss = _import_faiss()
        self._index: Any = None

    def build(self, batch_size: int = 65536, max_training_vectors: int = 262144) -> int:
        """Adds every row that is not in yet, ``batch_size`` at a time; returns how many were added.

        The file is written whenever it has grown by half and at the end: an interrupted building goes on from there.
        Vectors for training (at most ``max_training_vectors``) are spread evenly over the store.

        Raises:
            ValueError: if the store is empty.
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
        rows = self.store.num_rows
        cells = self.nlist or max(1, min(int(4 * rows**0.5), rows // MIN_POINTS_PER_CENTROID))
        recipe = INDEX_FACTORY_STRINGS[self.index_type](self.store.dimension, cells)
        index = self.faiss.index_factory(self.store.dimension, recipe, self.faiss.METRIC_INNER_PRODUCT)
        if not index.is_trained:
            chosen = np.linspace(0, rows - 1, min(rows, max_training_vectors)).astype(np.int64)
            index.train(self.store.take(chosen.tolist()).numpy())
        return index

    def _write_index(self, index: Any) -> None:
        half = self.path.with_suffix(".part")
        self.faiss.write_index(index, str(half))
        half.replace(self.path)

    def search(self, queries: Tensor, k: int, k_factor: int = 10, nprobe: int = 32) -> SearchResults:
        """The ``k`` nearest, nearly always, to each of the unit vectors ``queries [Q, D]``.

        ``widen · k`` candidates come from FAISS (``nprobe`` cells are looked into), then the exact vectors put them in
        order. Rows that were added after :meth:`build`, and so are in no FAISS index yet, are compared one by one.

        Raises:
            FileNotFoundError: before the first :meth:`build`.
            ValueError: as in :func:`featlift.retrieval.exact_search.exact_search`.
        """
        check_queries(self.store, queries)
        index = self._load_index()
        _, rows = index.search(
            queries.numpy(), k_factor * k, params=self._search_parameters(index, nprobe, k_factor * k)
        )
        rows = self._append_unindexed(torch.from_numpy(rows), index.ntotal)
        scores = torch.stack([self._exact_scores(q, line) for q, line in zip(queries, rows, strict=True)])
        scores, rows = top_k(scores, rows, min(k, len(self.store)))
        return build_search_results(self.store, scores, rows)

    def _load_index(self) -> Any:
        if self._index is None:
            if not self.path.exists():
                raise FileNotFoundError(f"{self.path} is not there; call build() first.")
            self._index = self.faiss.read_index(str(self.path), self.faiss.IO_FLAG_MMAP)
        return self._index

    def _search_parameters(self, index: Any, nprobe: int, num_candidates: int) -> Any:
        """Search parameters of the index's own kind, which leave out the removed rows."""
        gone = np.array(sorted(self.store.removed), dtype=np.int64)
        chosen = {"sel": self.faiss.IDSelectorNot(self.faiss.IDSelectorBatch(gone))} if len(gone) else {}
        if self.index_type == "hnsw":
            return self.faiss.SearchParametersHNSW(efSearch=max(64, num_candidates), **chosen)
        if self.index_type == "flat":
            return self.faiss.SearchParameters(**chosen)
        kinds = {"ivf-pq": "IVFPQSearchParameters", "ivf-rabitq": "IVFRaBitQSearchParameters"}
        return getattr(self.faiss, kinds.get(self.index_type, "SearchParametersIVF"))(
            nprobe=min(nprobe, index.nlist), **chosen
        )

    def _append_unindexed(self, rows: Tensor, num_indexed: int) -> Tensor:
        fresh = [row for row in range(num_indexed, self.store.num_rows) if row not in self.store.removed]
        return torch.cat([rows, torch.tensor(fresh, dtype=torch.long).expand(len(rows), -1)], dim=1)

    def _exact_scores(self, query: Tensor, rows: Tensor) -> Tensor:
        """Exact cosines; FAISS fills what it did not find with row -1, which scores -inf."""
        vectors = self.store.take(rows.clamp(min=0).tolist())
        return (vectors @ query).masked_fill(rows < 0, -torch.inf)


def _num_subquantizers(dimension: int) -> int:
    """Half bytes of a product code: the largest divisor of D that is at most D/2 and 256."""
    return next(parts for parts in range(min(256, max(1, dimension // 2)), 0, -1) if dimension % parts == 0)


def _import_faiss() -> Any:
    try:
        import faiss
    except ImportError as error:
        raise ImportError(
            "Approximate search needs FAISS: pip install 'featlift[retrieval]'. Exact search does not."
        ) from error
    return faiss
