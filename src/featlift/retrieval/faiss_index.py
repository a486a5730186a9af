"""Approximate search in memory: FAISS retrieves candidates, which are reranked by their exact vectors.

The FAISS index is stored in the folder of a :class:`VectorStore` and can always be rebuilt from it. Its ids are the
store's rows: rows that it lacks are compared exactly, and those that were removed since are left out.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from featlift.checkpoints.atomic import write_atomic
from featlift.checkpoints.damage import explain_damage
from featlift.checkpoints.folder_lock import FolderLock
from featlift.registry import check_choice
from featlift.retrieval.exact_search import MAX_TAKEN, SearchResults, build_search_results, check_queries, exact_search
from featlift.retrieval.unit_vectors import exact_cosines, sort_best_first
from featlift.retrieval.vector_store import WAIT_SECONDS, VectorStore

INDEX_FACTORY_STRINGS: dict[str, Callable[[int, int], str]] = {
    "flat": lambda dimension, nlist: "IDMap,Flat",
    "ivf-flat": lambda dimension, nlist: f"IVF{nlist},Flat",
    "ivf-pq": lambda dimension, nlist: f"IVF{nlist},PQ{_num_subquantizers(dimension)}x4fs",
    "ivf-rabitq": lambda dimension, nlist: f"IVF{nlist},RaBitQ",
    "hnsw": lambda dimension, nlist: "IDMap,HNSW32,Flat",
}
"""Index type → FAISS factory string. Bytes per vector of D numbers: flat and hnsw 4·D (hnsw 256 more), ivf-pq D/4
(at most 128; 4-bit codes, since 8-bit codes take minutes to train), ivf-rabitq D/8 + 8."""

MIN_POINTS_PER_CENTROID = 39
"""Vectors per centroid below which FAISS's k-means prints a warning."""

MAX_REMOVED = 0.2
"""Share of removed rows in an index above which it is built again."""


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
        self._rows_in_index = np.empty(0, dtype=np.int64)

    def build(self, batch_size: int = 65536, max_training_vectors: int = 262144) -> int:
        """Add all rows that are not indexed yet, ``batch_size`` at a time, and return their number.

        The file is written whenever the index has grown by 50 % and at the end; an interrupted build resumes from it. An index
        of which many rows were removed is built anew. The training vectors (at most ``max_training_vectors``) are sampled
        evenly from the store.

        Raises:
            ValueError: If the store is empty, or the file is damaged.
        """
        check_queries(self.store, torch.empty(0, self.store.dimension))
        with FolderLock(self.store.folder, WAIT_SECONDS):
            index = self._read_or_train(max_training_vectors)
            missing = np.setdiff1d(self.store.rows, self._indexed_rows(index), assume_unique=True)
            saved = index.ntotal
            for start in range(0, len(missing), batch_size):
                rows = missing[start : start + batch_size]
                index.add_with_ids(self.store.take(rows).numpy(), rows)
                if index.ntotal > 1.5 * max(saved, 1):
                    self._write_index(index)
                    saved = index.ntotal
            if index.ntotal > saved or not self.path.exists():
                self._write_index(index)
        self._index = None
        return len(missing)

    def _read_or_train(self, max_training_vectors: int) -> Any:
        if self.path.exists():
            index = self._read_index()
            rows = self._indexed_rows(index)
            removed = np.setdiff1d(rows, self.store.rows, assume_unique=True)
            if len(removed) <= MAX_REMOVED * len(rows) and self._takes_ids(index):
                return index
        return self._train_index(max_training_vectors)

    def _takes_ids(self, index: Any) -> bool:
        """Whether rows can be added under their numbers; files of other programs may number vectors by their order."""
        return isinstance(index, (self.faiss.IndexIDMap, self.faiss.IndexIVF))

    def _train_index(self, max_training_vectors: int) -> Any:
        num_rows = len(self.store)
        nlist = self.nlist or max(1, min(int(4 * num_rows**0.5), num_rows // MIN_POINTS_PER_CENTROID))
        factory_string = INDEX_FACTORY_STRINGS[self.index_type](self.store.dimension, nlist)
        index = self.faiss.index_factory(self.store.dimension, factory_string, self.faiss.METRIC_INNER_PRODUCT)
        if not index.is_trained:
            sample = np.linspace(0, num_rows - 1, min(num_rows, max_training_vectors)).astype(np.int64)
            index.train(self.store.take(self.store.rows[sample]).numpy())
        return index

    def _write_index(self, index: Any) -> None:
        write_atomic(self.path, lambda path: self.faiss.write_index(index, str(path)), durable=True)

    def _read_index(self, flags: int = 0) -> Any:
        with explain_damage(self.path, "Delete it; featlift index --index-type builds it again."):
            return self.faiss.read_index(str(self.path), flags)

    def _indexed_rows(self, index: Any) -> np.ndarray:
        """Rows in ``index``, ascending."""
        if isinstance(index, self.faiss.IndexIDMap):
            return np.sort(self.faiss.vector_to_array(index.id_map))
        if isinstance(index, self.faiss.IndexIVF):
            lists, swig = index.invlists, self.faiss.rev_swig_ptr
            sizes = [(number, lists.list_size(number)) for number in range(index.nlist)]
            ids = [swig(lists.get_ids(number), size).copy() for number, size in sizes if size]
            return np.sort(np.concatenate(ids)) if ids else np.empty(0, dtype=np.int64)
        return np.arange(index.ntotal)

    def search(self, queries: Tensor, k: int, k_factor: int = 10, nprobe: int = 32) -> SearchResults:
        """Return the approximate ``k`` nearest neighbors of each unit vector of ``queries [Q, D]``.

        FAISS returns ``k_factor · k`` candidates (from ``nprobe`` cells), which are reranked by their exact vectors; equal
        scores are sorted by row. Rows added after the last :meth:`build` are compared exactly. If the cells hold fewer than
        ``k`` vectors, all cells are searched.

        Raises:
            FileNotFoundError: Before the first :meth:`build`.
            ValueError: As in :func:`featlift.retrieval.exact_search.exact_search`.
        """
        unit_queries = check_queries(self.store, queries)
        index, k = self._load_index(), min(k, len(self.store))
        found, unindexed, removed = self._candidates(index, unit_queries, k * k_factor, nprobe)
        if bool(((found >= 0).sum(dim=1) + len(unindexed) < k).any()):
            found, _, _ = self._candidates(index, unit_queries, k * k_factor + len(removed), len(self.store))
        if bool(((found >= 0).sum(dim=1) + len(unindexed) < k).any()):  # a graph does not reach every vector
            return exact_search(self.store, queries, k)
        rows = torch.cat([found, unindexed.expand(len(found), -1)], dim=1)
        size = max(1, MAX_TAKEN // rows.shape[1])
        groups = zip(unit_queries.split(size), rows.split(size), strict=True)
        scores = torch.cat([self._rerank(*group) for group in groups])
        return build_search_results(self.store, *sort_best_first(scores, rows, k))

    def _candidates(
        self, index: Any, queries: Tensor, num_candidates: int, nprobe: int
    ) -> tuple[Tensor, Tensor, np.ndarray]:
        """Return the rows that FAISS finds ``[Q, M]`` (-1 for none), those that it lacks, and its removed ones."""
        indexed = self._rows_in_index
        removed = np.setdiff1d(indexed, self.store.rows, assume_unique=True)
        num_candidates = min(num_candidates, max(1, len(indexed)))
        parameters = self._search_parameters(index, nprobe, num_candidates, removed)
        _, rows = index.search(queries.numpy(), num_candidates, params=parameters)
        unindexed = np.setdiff1d(self.store.rows, indexed, assume_unique=True)
        return torch.from_numpy(rows), torch.from_numpy(unindexed), removed

    def _load_index(self) -> Any:
        if self._index is None:
            if not self.path.exists():
                raise FileNotFoundError(f"{self.path} does not exist; call build() first.")
            self._index = self._read_index(self.faiss.IO_FLAG_MMAP)
            self._rows_in_index = self._indexed_rows(self._index)
        return self._index

    def _search_parameters(self, index: Any, nprobe: int, num_candidates: int, removed: np.ndarray) -> Any:
        """Search parameters for the index type, with a selector that excludes removed rows."""
        selector = {"sel": self.faiss.IDSelectorNot(self.faiss.IDSelectorBatch(removed))} if len(removed) else {}
        if self.index_type == "hnsw":
            return self.faiss.SearchParametersHNSW(efSearch=max(64, num_candidates), **selector)
        if self.index_type == "flat":
            return self.faiss.SearchParameters(**selector)
        class_names = {"ivf-pq": "IVFPQSearchParameters", "ivf-rabitq": "IVFRaBitQSearchParameters"}
        return getattr(self.faiss, class_names.get(self.index_type, "SearchParametersIVF"))(
            nprobe=min(nprobe, index.nlist), **selector
        )

    def _rerank(self, queries: Tensor, rows: Tensor) -> Tensor:
        """Exact cosines ``[Q, M]`` of ``queries [Q, D]``; row -1 (FAISS's padding when it finds fewer) scores -inf."""
        some_row = int(self.store.rows[0])
        vectors = self.store.take(rows.masked_fill(rows < 0, some_row).flatten().numpy())
        return exact_cosines(queries, vectors.view(*rows.shape, vectors.shape[1])).masked_fill(rows < 0, -torch.inf)


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
