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
        about: what the vectors are (the fingerprint of the describer); a folder with others is refused.
        half: keep 16 bits of each number instead of 32 (decided when the store is made).

    Raises:
        ValueError: if the folder holds vectors of another dimension or kind.
    """

    def __init__(self, folder: Path, dimension: int, about: str = "", half: bool = False):
        self.folder, self.dimension, self.about = Path(folder), dimension, about
        self.half = half
        self.names: list[str] = []
        self.removed: set[int] = set()
        self._pieces: list[Array] = []
        self._row: dict[str, int] = {}
        if self._manifest.exists():
            self._open()
        else:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._commit()

    @property
    def _manifest(self) -> Path:
        return self.folder / "manifest.json"

    def _open(self) -> None:
        found = json.loads(self._manifest.read_text())
        if (found["dimension"], found["about"]) != (self.dimension, self.about):
            raise ValueError(
                f"{self.folder} holds vectors of dimension {found['dimension']} by '{found['about']}', "
                f"not of dimension {self.dimension} by '{self.about}'. "
                "Descriptors of different encoders cannot be compared; take another folder."
            )
        self.half, self.removed = found["half"], set(found["removed"])
        for number in range(found["pieces"]):
            self._take_in(number)

    def _take_in(self, number: int) -> None:
        names = json.loads(self._file(number, "json").read_text())
        start = len(self.names)
        self.names += names
        self._row |= {name: row for row, name in enumerate(names, start) if row not in self.removed}
        self._pieces.append(np.load(self._file(number, "npy"), mmap_mode="r"))

    def _file(self, number: int, ending: str) -> Path:
        return self.folder / f"{number:06d}.{ending}"

    def _commit(self) -> None:
        record = {"dimension": self.dimension, "about": self.about, "half": self.half}
        written = {**record, "pieces": len(self._pieces), "removed": sorted(self.removed)}
        replace(self._manifest, json.dumps(written).encode())

    def __len__(self) -> int:
        """Vectors that are there, without the removed ones."""
        return len(self._row)

    def __contains__(self, name: str) -> bool:
        return name in self._row

    def row(self, name: str) -> int:
        """The row of ``name``.

        Raises:
            KeyError: if there is none.
        """
        if name not in self._row:
            raise KeyError(f"'{name}' is not among the {len(self)} vectors of {self.folder}.")
        return self._row[name]

    @property
    def rows(self) -> int:
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
        number = len(self._pieces)
        with _written(self._file(number, "npy")) as file:
            np.save(file, vectors.numpy().astype(np.float16 if self.half else np.float32))
        replace(self._file(number, "json"), json.dumps(list(names), ensure_ascii=False).encode())
        self.removed |= {self._row[name] for name in names if name in self._row}
        self._take_in(number)
        self._commit()

    def remove(self, names: Iterable[str]) -> None:
        """Takes ``names`` out; their rows stay on disk but are never found again.

        Raises:
            KeyError: if a name is not there; then nothing is removed.
        """
        gone = {name: self.row(name) for name in names}
        self.removed |= set(gone.values())
        for name in gone:
            del self._row[name]
        self._commit()

    def take(self, rows: Sequence[int]) -> Tensor:
        """The vectors of ``rows``, ``[len(rows), D]`` in 32 bits."""
        ends = np.cumsum([len(piece) for piece in self._pieces])
        out = np.empty((len(rows), self.dimension), dtype=np.float32)
        wanted = np.asarray(rows, dtype=np.int64)
        home = np.searchsorted(ends, wanted, side="right")
        for number in np.unique(home):
            here = home == number
            piece = self._pieces[number]
            out[here] = piece[wanted[here] - (ends[number] - len(piece))]
        return torch.from_numpy(out)

    def blocks(self, start: int = 0, size: int = 65536) -> Iterator[tuple[int, Tensor]]:
        """``(first row, vectors [≤ size, D])`` over all rows from ``start`` on, removed ones included, read as they are
        asked for.
        """
        first = 0
        for piece in self._pieces:
            for low in range(max(0, start - first), len(piece), size):
                yield first + low, torch.from_numpy(piece[low : low + size].astype(np.float32))
            first += len(piece)


class _written:
    """``with _written(file) as out``: ``file`` appears, whole, when the block ends well, and not at all when it does
    not.
    """

    def __init__(self, file: Path):
        self.file = file
        self.half = file.with_name(f".{file.name}.{os.getpid()}")

    def __enter__(self):
        self.out = self.half.open("wb")
        return self.out

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self.out.flush()
        os.fsync(self.out.fileno())
        self.out.close()
        if kind is None:
            self.half.replace(self.file)
        else:
            self.half.unlink()


def replace(file: Path, content: bytes) -> None:
    """Writes ``file`` whole or not at all: to a temporary name first, then renamed."""
    with _written(file) as out:
        out.write(content)
