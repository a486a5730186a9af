"""Files that are written completely or not at all."""

import os
import re
from collections.abc import Callable
from pathlib import Path

_TEMPORARY = re.compile(r"\..+\.\d+")
"""Names of temporary files: a leading dot, the name of the file, the id of the process."""


def write_atomic(path: str | Path, content: str | bytes | Callable[[Path], object], durable: bool = False) -> Path:
    """Write ``path`` under a temporary name and rename it; an error or a killed process leaves the old file or none.

    Args:
        path: File; missing folders are created.
        content: Text (as UTF-8, with escapes for bytes of file names that are not), bytes, or
            a function that writes to the temporary path it is given, whose name has another suffix.
        durable: Wait until content and name are on disk, so that a power failure does no damage either.

    Returns:
        ``path``.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        if callable(content):
            content(temporary)
        else:
            temporary.write_bytes(content.encode(errors="backslashreplace") if isinstance(content, str) else content)
        if durable:
            flush_to_disk(temporary)
        temporary.replace(path)
        if durable:
            flush_to_disk(path.parent)
        return path
    finally:
        temporary.unlink(missing_ok=True)


def flush_to_disk(path: Path) -> None:
    """Wait until the file ``path``, or the names in the folder ``path``, are on disk."""
    if path.is_dir() and os.name == "nt":  # Windows cannot open folders
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_temporary_files(folder: str | Path) -> list[Path]:
    """Remove what killed calls of `write_atomic` left in ``folder``, without its subfolders, and return the paths.

    Call it only while no other process writes into ``folder``.
    """
    leftovers = [path for path in Path(folder).glob(".*") if _TEMPORARY.fullmatch(path.name) and path.is_file()]
    for path in leftovers:
        path.unlink(missing_ok=True)
    return leftovers
