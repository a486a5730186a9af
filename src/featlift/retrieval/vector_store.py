"""Storage of named vectors on disk in chunks, used by search indexes and the descriptor cache.

A store is a folder with ``manifest.json`` and, for each chunk, ``<number>.npy`` (vectors, memory-mapped) and ``<number>.json``
(names). A chunk is written under a temporary name and becomes part of the store when the manifest is replaced atomically.
If the process is killed at any point, completed additions are preserved and the current one is discarded.
One process may write at a time; any number may read.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from featlift.checkpoints.atomic import write_atomic

Array = np.ndarray


class VectorStore:
    """Vectors ``[N, D]`` under unique names. Rows are numbered in insertion order and never renumbered.

    Args:
        folder: Folder of the store; created if it does not exist.
        dimension: D.
        fingerprint: Fingerprint of the embedder; a store with another fingerprint is rejected.
        half: Store 16-bit instead of 32-bit floats (fixed when the store is created).

    Raises:
        ValueError: If the stored dimension or fingerprint differs.
    """

    def __init__(self, folder: Path, dimension: int, fingerprint: str = "", half: bool = False):
        self.folder, self.dimension, self.fingerprint = Path(folder), dimension, fingerprint
        self.half = half
        self.names: list[str] = []
        self.removed: set[int] = set()
        self._chunks: list[Array] = []
        self._row_by_name: dict[str, int] = {}
        if self._manifest_path.exists():
            self._load()
        else:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._write_manifest()

    @property
    def _manifest_path(self) -> Path:
        return self.folder / "manifest.json"

    def _load(self) -> None:
        manifest = json.loads(self._manifest_path.read_text())
        if (manifest["dimension"], manifest["fingerprint"]) != (self.dimension, self.fingerprint):
            raise ValueError(
                f"{self.folder} holds vectors of dimension {manifest['dimension']} by '{manifest['fingerprint']}', "
                f"not of dimension {self.dimension} by '{self.fingerprint}'. "
                "Descriptors of different encoders cannot be compared; use another folder."
            )
        self.half, self.removed = manifest["half"], set(manifest["removed"])
        for number in range(manifest["chunks"]):
            self._load_chunk(number)

    def _load_chunk(self, number: int) -> None:
        names = json.loads(self._chunk_path(number, "json").read_text())
        start = len(self.names)
        self.names += names
        self._row_by_name |= {name: row for row, name in enumerate(names, start) if row not in self.removed}
        self._chunks.append(np.load(self._chunk_path(number, "npy"), mmap_mode="r"))

    def _chunk_path(self, number: int, suffix: str) -> Path:
        return self.folder / f"{number:06d}.{suffix}"

    def _write_manifest(self) -> None:
        manifest = {
            "dimension": self.dimension,
            "fingerprint": self.fingerprint,
            "half": self.half,
            "chunks": len(self._chunks),
            "removed": sorted(self.removed),
        }
        write_atomic(self._manifest_path, json.dumps(manifest), durable=True)

    def __len__(self) -> int:
        """Number of vectors, removed ones excluded."""
        return len(self._row_by_name)

    def __contains__(self, name: str) -> bool:
        return name in self._row_by_name

    def row(self, name: str) -> int:
        """Return the row of ``name``.

        Raises:
            KeyError: If there is no such name.
        """
        if name not in self._row_by_name:
            raise KeyError(f"'{name}' is not among the {len(self)} vectors of {self.folder}.")
        return self._row_by_name[name]

    @property
    def num_rows(self) -> int:
        """Number of rows, removed ones included."""
        return len(self.names)

    def add(self, names: Sequence[str], vectors: Tensor) -> None:
        """Add ``vectors [n, D]`` as one chunk, on disk when this returns; the vector of an existing name is replaced.

        Raises:
            ValueError: If the shape of ``vectors`` is not ``[len(names), D]``, or a name is repeated.
        """
        if vectors.shape != (len(names), self.dimension) or len(set(names)) < len(names):
            raise ValueError(
                f"{len(set(names))} distinct names for vectors of shape {tuple(vectors.shape)}; "
                f"expected [{len(names)}, {self.dimension}] and every name once."
            )
        if not names:
            return
        number = len(self._chunks)
        array = vectors.numpy().astype(np.float16 if self.half else np.float32)
        write_atomic(self._chunk_path(number, "npy"), lambda path: _save_array(path, array), durable=True)
        write_atomic(self._chunk_path(number, "json"), json.dumps(list(names), ensure_ascii=False), durable=True)
        self.removed |= {self._row_by_name[name] for name in names if name in self._row_by_name}
        self._load_chunk(number)
        self._write_manifest()

    def remove(self, names: Iterable[str]) -> None:
        """Remove ``names``; their rows remain on disk but are excluded from search.

        Raises:
            KeyError: If a name does not exist; then nothing is removed.
        """
        row_by_name = {name: self.row(name) for name in names}
        self.removed |= set(row_by_name.values())
        for name in row_by_name:
            del self._row_by_name[name]
        self._write_manifest()

    def take(self, rows: Sequence[int]) -> Tensor:
        """Return the vectors of ``rows`` as float32 ``[len(rows), D]``."""
        ends = np.cumsum([len(chunk) for chunk in self._chunks])
        out = np.empty((len(rows), self.dimension), dtype=np.float32)
        row_indices = np.asarray(rows, dtype=np.int64)
        chunk_numbers = np.searchsorted(ends, row_indices, side="right")
        for number in np.unique(chunk_numbers):
            mask = chunk_numbers == number
            chunk = self._chunks[number]
            out[mask] = chunk[row_indices[mask] - (ends[number] - len(chunk))]
        return torch.from_numpy(out)

    def iter_batches(self, start: int = 0, batch_size: int = 65536) -> Iterator[tuple[int, Tensor]]:
        """Yield ``(first row, vectors [≤ batch_size, D])`` over all rows from ``start``, removed ones included, loaded lazily."""
        first = 0
        for chunk in self._chunks:
            for low in range(max(0, start - first), len(chunk), batch_size):
                yield first + low, torch.from_numpy(chunk[low : low + batch_size].astype(np.float32))
            first += len(chunk)


def _save_array(path: Path, array: Array) -> None:
    with path.open("wb") as file:  # given a path, NumPy would append its suffix
        np.save(file, array)
