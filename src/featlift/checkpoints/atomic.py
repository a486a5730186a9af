"""Files that are written completely or not at all."""

import os
from collections.abc import Callable
from pathlib import Path


def write_atomic(path: str | Path, content: str | bytes | Callable[[Path], object], durable: bool = False) -> Path:
    """Write ``path`` under a temporary name and rename it; an error or a killed process leaves the old file or none.

    Args:
        path: File; missing folders are created.
        content: Text (as UTF-8), bytes, or a function that writes to the temporary path it is given, whose name has another suffix.
        durable: Wait until the content is on disk before renaming, so that a power failure does no damage either.

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
            temporary.write_bytes(content.encode() if isinstance(content, str) else content)
        if durable:
            _flush_to_disk(temporary)
        return temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _flush_to_disk(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
