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

from featlift.retrieval.exact_search import Found, best, check_queries, found
from featlift.retrieval.vector_store import VectorStore

KINDS: dict[str, Callable[[int, int], str]] = {
    "flat": lambda dimension, cells: "Flat",
    "ivf-flat": lambda dimension, cells: f"IVF{cells},Flat",
    "ivf-pq": lambda dimension, cells: f"IVF{cells},PQ{_parts(dimension)}x4fs",
    "ivf-rabitq": lambda dimension, cells: f"IVF{cells},RaBitQ",
    "hnsw": lambda dimension, cells: "HNSW32,Flat",
}
"""Kinds of FAISS index → its recipe. Bytes for each vector of D numbers: flat and hnsw 4·D (hnsw 256 more), ivf-pq D/4
(at most 128; codes of 4 bits, since those of 8 take minutes to train), ivf-rabitq D/8 + 8."""

TRAINING_POINTS = 39
"""Vectors per cell below which FAISS's k-means complains."""


class ApproximateIndex:
    """A FAISS index over a store.

    Args:
        store: the vectors; they stay the truth, and order the candidates.
        kind: a name of :data:`KINDS`. "ivf-rabitq" is the smallest and quickest to build, "hnsw" needs no training.
        cells: of the inverted file; by default 4·√N, fewer for few vectors.

    Raises:
        ValueError: if the kind is unknown.
        ImportError: if FAISS is not installed.
    """

    def __init__(self, store: VectorStore, kind: str = "ivf-rabitq", cells: int | None = None):
        if kind not in KINDS:
            raise ValueError(f"Unknown kind of index '{kind}'; choose one of {', '.join(KINDS)}.")
        self.store, self.kind, self.cells = store, kind, cells
        self.file = Path(store.folder) / f"{kind}.faiss"
        self.faiss = _faiss()
        self._index: Any = None

    def build(self, block: int = 65536, sample: int = 262144) -> int:
        """Adds every row that is not in yet, ``block`` at a time; returns how many were added.

        The file is written whenever it has grown by half and at the end: an interrupted building goes on from there.
        Vectors for training (at most ``sample``) are spread evenly over the store.

        Raises:
            ValueError: if the store is empty.
        """
        check_queries(self.store, torch.empty(0, self.store.dimension))
        index = self.faiss.read_index(str(self.file)) if self.file.exists() else self._trained(sample)
        before = saved = index.ntotal
        for _, vectors in self.store.blocks(start=before, size=block):
            index.add(vectors.numpy())
            if index.ntotal > 1.5 * max(saved, 1):
                self._save(index)
                saved = index.ntotal
        if index.ntotal > saved:
            self._save(index)
        self._index = None
        return index.ntotal - before

    def _trained(self, sample: int) -> Any:
        rows = self.store.rows
        cells = self.cells or max(1, min(int(4 * rows**0.5), rows // TRAINING_POINTS))
        recipe = KINDS[self.kind](self.store.dimension, cells)
        index = self.faiss.index_factory(self.store.dimension, recipe, self.faiss.METRIC_INNER_PRODUCT)
        if not index.is_trained:
            chosen = np.linspace(0, rows - 1, min(rows, sample)).astype(np.int64)
            index.train(self.store.take(chosen.tolist()).numpy())
        return index

    def _save(self, index: Any) -> None:
        half = self.file.with_suffix(".part")
        self.faiss.write_index(index, str(half))
        half.replace(self.file)

    def search(self, queries: Tensor, k: int, widen: int = 10, probes: int = 32) -> Found:
        """The ``k`` nearest, nearly always, to each of the unit vectors ``queries [Q, D]``.

        ``widen · k`` candidates come from FAISS (``probes`` cells are looked into), then the exact vectors put them in
        order. Rows that were added after :meth:`build`, and so are in no FAISS index yet, are compared one by one.

        Raises:
            FileNotFoundError: before the first :meth:`build`.
            ValueError: as in :func:`featlift.retrieval.exact_search.search`.
        """
        check_queries(self.store, queries)
        index = self._opened()
        _, rows = index.search(queries.numpy(), widen * k, params=self._options(index, probes, widen * k))
        rows = self._with_fresh(torch.from_numpy(rows), index.ntotal)
        scores = torch.stack([self._scores(q, line) for q, line in zip(queries, rows, strict=True)])
        scores, rows = best(scores, rows, min(k, len(self.store)))
        return found(self.store, scores, rows)

    def _opened(self) -> Any:
        if self._index is None:
            if not self.file.exists():
                raise FileNotFoundError(f"{self.file} is not there; call build() first.")
            self._index = self.faiss.read_index(str(self.file), self.faiss.IO_FLAG_MMAP)
        return self._index

    def _options(self, index: Any, probes: int, wanted: int) -> Any:
        """Search parameters of the index's own kind, which leave out the removed rows."""
        gone = np.array(sorted(self.store.removed), dtype=np.int64)
        chosen = {"sel": self.faiss.IDSelectorNot(self.faiss.IDSelectorBatch(gone))} if len(gone) else {}
        if self.kind == "hnsw":
            return self.faiss.SearchParametersHNSW(efSearch=max(64, wanted), **chosen)
        if self.kind == "flat":
            return self.faiss.SearchParameters(**chosen)
        kinds = {"ivf-pq": "IVFPQSearchParameters", "ivf-rabitq": "IVFRaBitQSearchParameters"}
        return getattr(self.faiss, kinds.get(self.kind, "SearchParametersIVF"))(
            nprobe=min(probes, index.nlist), **chosen
        )

    def _with_fresh(self, rows: Tensor, held: int) -> Tensor:
        fresh = [row for row in range(held, self.store.rows) if row not in self.store.removed]
        return torch.cat([rows, torch.tensor(fresh, dtype=torch.long).expand(len(rows), -1)], dim=1)

    def _scores(self, query: Tensor, rows: Tensor) -> Tensor:
        """Exact cosines; FAISS fills what it did not find with row -1, which scores -inf."""
        vectors = self.store.take(rows.clamp(min=0).tolist())
        return (vectors @ query).masked_fill(rows < 0, -torch.inf)


def _parts(dimension: int) -> int:
    """Half bytes of a product code: the largest divisor of D that is at most D/2 and 256."""
    return next(parts for parts in range(min(256, max(1, dimension // 2)), 0, -1) if dimension % parts == 0)


def _faiss() -> Any:
    try:
        import faiss
    except ImportError as error:
        raise ImportError(
            "Approximate search needs FAISS: pip install 'featlift[retrieval]'. Exact search does not."
        ) from error
    return faiss
