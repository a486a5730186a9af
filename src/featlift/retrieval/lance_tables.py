"""LanceDB tables of vectors: opening, schema, and names of files in UTF-8."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from featlift.checkpoints.folder_lock import FolderLock

TABLE = "vectors"
_TO_PRIVATE = {0xDC00 + byte: 0x10DC00 + byte for byte in range(0x80, 0x100)}
_FROM_PRIVATE = {private: surrogate for surrogate, private in _TO_PRIVATE.items()}


def open_table(folder: Path, dimension: int, fingerprint: str, half: bool) -> tuple[Any, bool]:
    """Open the table in ``folder``, or create it; return it and whether its vectors have 16-bit numbers.

    Raises:
        ImportError: If LanceDB is not installed.
        ValueError: If the table has another dimension or fingerprint, is damaged, or the folder is of an older version.
    """
    lancedb = _import_lancedb()
    if (folder / "manifest.json").exists() and not (folder / f"{TABLE}.lance").exists():
        raise ValueError(f"{folder} was written by an older version of FeatLift; delete it and build it again.")
    if not (folder / f"{TABLE}.lance").exists():
        with FolderLock(folder, 60.0):
            _create(lancedb.connect(folder), dimension, fingerprint, half)
    try:
        table = lancedb.connect(folder).open_table(TABLE)
        schema = table.schema
    except (RuntimeError, ValueError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"{folder} is damaged ({reason}). Delete it and build it again.") from error
    stored = (schema.field("vector").type.list_size, (schema.metadata or {}).get(b"fingerprint", b"").decode())
    if stored != (dimension, fingerprint):
        raise ValueError(
            f"{folder} holds vectors of dimension {stored[0]} by '{stored[1]}', "
            f"not of dimension {dimension} by '{fingerprint}'. "
            "Descriptors of different encoders cannot be compared; use another folder."
        )
    return table, str(schema.field("vector").type.value_type) in ("halffloat", "float16")


def _create(database: Any, dimension: int, fingerprint: str, half: bool) -> None:
    import pyarrow as pa

    vector = pa.list_(pa.float16() if half else pa.float32(), dimension)
    columns = [("row", pa.int64()), ("name", pa.string()), ("content", pa.string()), ("vector", vector)]
    database.create_table(TABLE, schema=pa.schema(columns, metadata={"fingerprint": fingerprint}), exist_ok=True)


def _import_lancedb() -> Any:
    try:
        import lancedb
    except ImportError as error:
        raise ImportError(
            "Search indexes and descriptor caches need LanceDB: pip install 'featlift[retrieval]'."
        ) from error
    return lancedb


def encode_name(name: str) -> str:
    """Return ``name`` for a table, whose strings are in UTF-8: bytes of a file name that are not become private characters."""
    return name if name.isascii() else name.translate(_TO_PRIVATE)


def decode_names(names: Sequence[str]) -> list[str]:
    """Return the names that `encode_name` was given."""
    return [name if name.isascii() else name.translate(_FROM_PRIVATE) for name in names]
