"""Named unit vectors on disk, in a LanceDB table: the storage of search indexes and of the descriptor cache.

LanceDB (Apache-2.0) commits every change as a new version of the table: a killed process leaves the version before, and
readers keep theirs while another process writes. One process writes at a time; others wait for it, and see what it wrote.
"""

import warnings
from collections.abc import Iterable, Iterator, Sequence
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from featlift.checkpoints.folder_lock import FolderLock
from featlift.retrieval.lance_tables import decode_names, encode_name, open_table
from featlift.retrieval.unit_vectors import check_unit_vectors

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_ROWS_PER_ADD = 1 << 20
ADDS_PER_COMPACTION = 64
KEEP_VERSIONS = timedelta(hours=1)
"""How long readers can use the version that they have opened."""
WAIT_SECONDS = 600.0
BATCH_SIZE = 65536


class VectorStore:
    """Unit vectors ``[N, D]`` under unique names.

    A vector has a row, a number that no other vector of the store gets, also after it is removed; rows grow with time.

    Args:
        folder: Folder of the store; created if it does not exist.
        dimension: D.
        fingerprint: Fingerprint of the embedder; a store with another fingerprint is rejected.
        half: Store 16-bit instead of 32-bit floats (fixed when the store is created).

    Raises:
        ImportError: If LanceDB is not installed.
        ValueError: If the stored dimension or fingerprint differs.
    """

    def __init__(self, folder: str | Path, dimension: int, fingerprint: str = "", half: bool = False):
        self.folder, self.dimension, self.fingerprint = Path(folder), dimension, fingerprint
        self._table, self.half = open_table(self.folder, dimension, fingerprint, half)
        self._num_adds = 0
        self._load()

    def _load(self) -> None:
        """Read rows and names of the version that the table shows, in its order."""
        self._loaded_version = self._table.version
        columns = self._scan(["row", "name"]).read_all()
        self._set_rows(columns["row"].to_numpy(), columns["name"].to_pylist())

    def _set_rows(self, table_rows: "NDArray[np.int64]", table_names: list[str]) -> None:
        self._table_rows = table_rows
        self._order = np.argsort(table_rows, kind="stable")
        self.rows = table_rows[self._order]
        names = decode_names(table_names)
        self.names = names if np.array_equal(self.rows, table_rows) else [names[i] for i in self._order]
        self.__dict__.pop("_row_by_name", None)

    def _scan(self, columns: Sequence[str], where: str = "", batch_size: int = BATCH_SIZE) -> Any:
        query = self._table.search().select(list(columns)).limit(max(1, self._table.count_rows()))
        return (query.where(where) if where else query).to_batches(batch_size)

    @cached_property
    def _row_by_name(self) -> dict[str, int]:
        return dict(zip(self.names, self.rows.tolist(), strict=True))

    def refresh(self) -> None:
        """Show what other processes have written since."""
        self._table.checkout_latest()
        if self._table.version != self._loaded_version:
            self._load()

    def __len__(self) -> int:
        """Number of vectors."""
        return len(self.rows)

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

    def names_of(self, rows: Iterable[int]) -> list[str]:
        """Return the names of ``rows``, all of which have to exist."""
        return [self.names[i] for i in self._indices(np.fromiter(rows, np.int64))]

    def _indices(self, rows: "NDArray[np.int64]") -> "NDArray[np.int64]":
        """Positions of ``rows`` in `rows`.

        Raises:
            KeyError: If a row does not exist.
        """
        indices = np.searchsorted(self.rows, rows)
        found = indices < len(self.rows)
        found[found] = self.rows[indices[found]] == rows[found]
        if not found.all():
            raise KeyError(f"{self.folder} has no row {rows[~found][0]}; was it removed?")
        return indices

    def contents(self) -> dict[str, str]:
        """Return what `add` was given as the ``contents`` of each name."""
        columns = self._scan(["name", "content"]).read_all()
        return dict(zip(decode_names(columns["name"].to_pylist()), columns["content"].to_pylist(), strict=True))

    def add(self, names: Sequence[str], vectors: Tensor, contents: Sequence[str] = ()) -> None:
        """Add ``vectors [n, D]`` in one step, on disk when this returns; the vector of an existing name is replaced.

        Args:
            names: A name for each vector.
            vectors: Vectors of length 1 (or 0).
            contents: A description of what each vector was computed from, such as a checksum; see `contents`.

        Raises:
            FolderLockedError: If another process writes for longer than ten minutes.
            ValueError: If the shape of ``vectors`` is not ``[len(names), D]``, a name is repeated, or a vector has another
                length.
        """
        if vectors.shape != (len(names), self.dimension) or len(set(names)) < len(names):
            raise ValueError(
                f"{len(set(names))} distinct names for vectors of shape {tuple(vectors.shape)}; "
                f"expected [{len(names)}, {self.dimension}] and every name once."
            )
        array = check_unit_vectors(vectors, "Vector").numpy()
        contents = contents or [""] * len(names)
        with FolderLock(self.folder, WAIT_SECONDS):
            for start in range(0, len(names), MAX_ROWS_PER_ADD):
                part = slice(start, start + MAX_ROWS_PER_ADD)
                self._add_part(names[part], array[part], contents[part])

    def _add_part(self, names: Sequence[str], array: "NDArray[np.float32]", contents: Sequence[str]) -> None:
        self.refresh()
        rows = np.arange(len(names), dtype=np.int64) + self._table.version * MAX_ROWS_PER_ADD
        batch = self._to_arrow(rows, [encode_name(name) for name in names], contents, array)
        if any(name in self for name in names):
            update = self._table.merge_insert("name").when_matched_update_all().when_not_matched_insert_all()
            update.execute(batch)
            self.refresh()
        else:
            self._table.add(batch)
            self._loaded_version = self._table.version
            self._set_rows(np.concatenate([self._table_rows, rows]), [*self._table_names(), *names])
        self._num_adds += 1
        if self._num_adds % ADDS_PER_COMPACTION == 0:
            self.compact()

    def _table_names(self) -> list[str]:
        if np.array_equal(self.rows, self._table_rows):
            return self.names
        return [self.names[i] for i in np.argsort(self._order)]

    def _to_arrow(
        self, rows: "NDArray[np.int64]", names: list[str], contents: Sequence[str], array: "NDArray[np.float32]"
    ) -> Any:
        import pyarrow as pa

        numbers = pa.array(array.astype(np.float16 if self.half else np.float32).ravel())
        vectors = pa.FixedSizeListArray.from_arrays(numbers, self.dimension)
        columns = {"row": rows, "name": names, "content": list(contents), "vector": vectors}
        return pa.table(columns, schema=self._table.schema)

    def remove(self, names: Iterable[str]) -> None:
        """Remove ``names``.

        Raises:
            KeyError: If a name does not exist; then nothing is removed.
        """
        with FolderLock(self.folder, WAIT_SECONDS):
            self.refresh()
            rows = [self.row(name) for name in names]
            if rows:
                self._table.delete(f"row IN ({', '.join(map(str, rows))})")
                self.refresh()

    def take(self, rows: "Sequence[int] | NDArray[np.integer[Any]]") -> Tensor:
        """Return the vectors of ``rows`` as float32 ``[len(rows), D]``.

        Raises:
            KeyError: If a row does not exist.
        """
        if not len(rows):
            return torch.empty(0, self.dimension)
        offsets = self._order[self._indices(np.asarray(rows, dtype=np.int64))]
        unique, inverse = np.unique(offsets, return_inverse=True)
        found = self._table.take_offsets(unique.tolist()).select(["row", "vector"]).to_arrow()
        vectors = self._to_tensor(found["vector"])
        by_row = np.argsort(found["row"].to_numpy(), kind="stable")
        position = np.empty(len(unique), dtype=np.int64)
        position[np.argsort(self._table_rows[unique], kind="stable")] = by_row
        return vectors[torch.from_numpy(position[inverse])]

    def iter_batches(
        self, where: str = "", batch_size: int = BATCH_SIZE
    ) -> Iterator[tuple["NDArray[np.int64]", Tensor]]:
        """Yield ``(rows [n], vectors [n, D])`` over the store, in no particular order, with n ≤ ``batch_size``.

        Args:
            where: Condition on ``name``, ``content`` or ``row`` in SQL, such as ``"name LIKE 'cam0/%'"``; empty for all.
            batch_size: Maximum of n.

        Raises:
            ValueError: If the condition is no SQL.
        """
        try:
            for batch in self._scan(["row", "vector"], where, batch_size):
                yield batch["row"].to_numpy(), self._to_tensor(batch["vector"])
        except (RuntimeError, ValueError) as error:
            if not where:
                raise
            raise ValueError(
                f"The condition «{where}» cannot be used ({str(error).splitlines()[0]}). Write it in SQL with the columns "
                "name, content and row, such as \"name LIKE 'cam0/%'\"."
            ) from error

    def _to_tensor(self, column: Any) -> Tensor:
        chunks = getattr(column, "chunks", [column])
        arrays = [chunk.flatten().to_numpy(zero_copy_only=False).reshape(-1, self.dimension) for chunk in chunks]
        array = np.concatenate(arrays) if len(arrays) != 1 else arrays[0]
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The given NumPy array is not writable")
            return torch.from_numpy(array.astype(np.float32, copy=False))

    def compact(self, keep_versions: timedelta = KEEP_VERSIONS) -> None:
        """Join the pieces of many additions, drop removed vectors from disk, and delete versions older than
        ``keep_versions``, which no reader may still use.
        """
        with FolderLock(self.folder, WAIT_SECONDS):
            self._table.checkout_latest()
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "optimize.cleanup_older_than=0", UserWarning)
                self._table.optimize(cleanup_older_than=keep_versions)
            self.refresh()
