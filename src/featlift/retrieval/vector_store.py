"""Named vectors on disk, in pieces: what an index and a cache of descriptors have in common.

A folder with ``manifest.json`` and, for each piece, ``<number>.npy`` (vectors, memory-mapped) and ``<number>.json``
(names). A piece is written first, under a temporary name, and counts from the moment at which the manifest, replaced in
one step, names it. So a process may die at any point: what was added before is there, and what was being added is not.
One process writes at a time; any number may read.
"""

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

Array = np.ndarray


class VectorStore:
    """Vectors ``[N, D]`` under unique names. Rows are numbered in the order in which they were added and keep their
    number for ever.

    Args:
        folder: opened if it holds a store, made otherwise.
        dimension: D.
        fingerprint: what the vectors are (the fingerprint of the describer); a folder with others is refused.
        half: keep 16 bits of each number instead of 32 (decided when the store is made).

    Raises:
        ValueError: if the folder holds vectors of another dimension or kind.
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
        found = json.loads(self._manifest_path.read_text())
        if (found["dimension"], found["about"]) != (self.dimension, self.fingerprint):
            raise ValueError(
                f"{self.folder} holds vectors of dimension {found['dimension']} by '{found['about']}', "
                f"not of dimension {self.dimension} by '{self.fingerprint}'. "
                "Descriptors of different encoders cannot be compared; take another folder."
            )
        self.half, self.removed = found["half"], set(found["removed"])
        for number in range(found["pieces"]):
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
        record = {"dimension": self.dimension, "about": self.fingerprint, "half": self.half}
        written = {**record, "pieces": len(self._chunks), "removed": sorted(self.removed)}
        write_atomically(self._manifest_path, json.dumps(written).encode())

    def __len__(self) -> int:
        """Vectors that are there, without the removed ones."""
        return len(self._row_by_name)

    def __contains__(self, name: str) -> bool:
        return name in self._row_by_name

    def row(self, name: str) -> int:
        """The row of ``name``.

        Raises:
            KeyError: if there is none.
        """
        if name not in self._row_by_name:
            raise KeyError(f"'{name}' is not among the {len(self)} vectors of {self.folder}.")
        return self._row_by_name[name]

    @property
    def num_rows(self) -> int:
        """Rows ever added, removed ones included: one more than the last row's number."""
        return len(self.names)

    def add(self, names: Sequence[str], vectors: Tensor) -> None:
        """Adds ``vectors [n, D]`` as one piece; on disk when this returns. A name that is there already gets the new
        vector.

        Raises:
            ValueError: if names and vectors do not fit together, or a name comes twice.
        """
        if vectors.shape != (len(names), self.dimension) or len(set(names)) < len(names):
            raise ValueError(
                f"{len(set(names))} different names for vectors of shape {tuple(vectors.shape)}; "
                f"expected [{len(names)}, {self.dimension}] and every name once."
            )
        if not names:
            return
        number = len(self._chunks)
        with _AtomicWriter(self._chunk_path(number, "npy")) as file:
            np.save(file, vectors.numpy().astype(np.float16 if self.half else np.float32))
        write_atomically(self._chunk_path(number, "json"), json.dumps(list(names), ensure_ascii=False).encode())
        self.removed |= {self._row_by_name[name] for name in names if name in self._row_by_name}
        self._load_chunk(number)
        self._write_manifest()

    def remove(self, names: Iterable[str]) -> None:
        """Takes ``names`` out; their rows stay on disk but are never found again.

        Raises:
            KeyError: if a name is not there; then nothing is removed.
        """
        gone = {name: self.row(name) for name in names}
        self.removed |= set(gone.values())
        for name in gone:
            del self._row_by_name[name]
        self._write_manifest()

    def take(self, rows: Sequence[int]) -> Tensor:
        """The vectors of ``rows``, ``[len(rows), D]`` in 32 bits."""
        ends = np.cumsum([len(piece) for piece in self._chunks])
        out = np.empty((len(rows), self.dimension), dtype=np.float32)
        wanted = np.asarray(rows, dtype=np.int64)
        home = np.searchsorted(ends, wanted, side="right")
        for number in np.unique(home):
            here = home == number
            piece = self._chunks[number]
            out[here] = piece[wanted[here] - (ends[number] - len(piece))]
        return torch.from_numpy(out)

    def iter_batches(self, start: int = 0, batch_size: int = 65536) -> Iterator[tuple[int, Tensor]]:
        """``(first row, vectors [≤ size, D])`` over all rows from ``start`` on, removed ones included, read as they are
        asked for.
        """
        first = 0
        for piece in self._chunks:
            for low in range(max(0, start - first), len(piece), batch_size):
                yield first + low, torch.from_numpy(piece[low : low + batch_size].astype(np.float32))
            first += len(piece)


class _AtomicWriter:
    """``with _written(file) as out``: ``path`` appears, whole, when the block ends well, and not at all when it does
    not.
    """

    def __init__(self, file: Path):
        self.path = file
        self.partial_path = file.with_name(f".{file.name}.{os.getpid()}")

    def __enter__(self):
        self.stream = self.partial_path.open("wb")
        return self.stream

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self.stream.flush()
        os.fsync(self.stream.fileno())
        self.stream.close()
        if kind is None:
            self.partial_path.replace(self.path)
        else:
            self.partial_path.unlink()


def write_atomically(path: Path, content: bytes) -> None:
    """Writes ``path`` whole or not at all: to a temporary name first, then renamed."""
    with _AtomicWriter(path) as out:
        out.write(content)
