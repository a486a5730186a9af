"""One writer per folder: run folders, caches and search indexes."""

import json
import os
import socket
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path

from filelock import FileLock, Timeout

from featlift.checkpoints.atomic import write_atomic

LOCK_FILE = ".lock"
HOLDER_FILE = ".lock.json"
PATIENCE = 30.0
"""Seconds to wait for a lock whose process is dead: its workers, which have inherited it, end a little later."""


class FolderLockedError(OSError):
    """Another process writes into the folder."""


class FolderLock:
    """Exclusive lock of ``folder``, which is created if missing; released by `release`, or when the process ends.

    The same process may lock a folder several times. The lock is one of the operating system (``flock``), so that a
    killed process leaves none; id, machine and time of its holder are in ``.lock.json``.

    Args:
        folder: Folder.
        wait: Seconds to wait for another process.

    Raises:
        FolderLockedError: If another process holds the lock; the message names it.
    """

    def __init__(self, folder: str | Path, wait: float = 0.0) -> None:
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(self.folder / LOCK_FILE, is_singleton=True, thread_local=False)
        self._acquire(wait)

    def __enter__(self) -> "FolderLock":
        return self

    def __exit__(self, *error: object) -> None:
        self.release()

    def release(self) -> None:
        """Release the lock, if it is held."""
        if self._lock.is_locked:
            if self._lock.lock_counter == 1:
                (self.folder / HOLDER_FILE).unlink(missing_ok=True)
            self._lock.release()

    def _acquire(self, wait: float) -> None:
        try:
            self._lock.acquire(timeout=wait, poll_interval=0.05)
        except Timeout:
            holder = self._read_holder()
            if _is_alive(holder):
                raise FolderLockedError(_describe(self.folder, holder)) from None
            try:
                self._lock.acquire(timeout=PATIENCE, poll_interval=0.05)
            except Timeout:
                raise FolderLockedError(_describe(self.folder, holder)) from None
        if self._lock.lock_counter == 1:
            now = datetime.now(timezone.utc).isoformat(timespec="seconds")
            content = {"pid": os.getpid(), "host": socket.gethostname(), "since": now}
            write_atomic(self.folder / HOLDER_FILE, json.dumps(content))

    def _read_holder(self) -> dict[str, object]:
        with suppress(OSError, ValueError):
            return dict(json.loads((self.folder / HOLDER_FILE).read_text()))
        return {}


def _is_alive(holder: dict[str, object]) -> bool:
    """Whether the process ``holder`` runs; True if it is on another machine, False if it is unknown."""
    if holder.get("host") != socket.gethostname():
        return bool(holder)
    try:
        os.kill(int(str(holder["pid"])), 0)
    except PermissionError:
        return True
    except (ProcessLookupError, ValueError, KeyError):
        return False
    return True


def _describe(folder: Path, holder: dict[str, object]) -> str:
    words = f"process {holder.get('pid', '?')} on {holder.get('host', '?')}, since {holder.get('since', '?')}"
    return f"{folder} is being written by another run ({words}). Wait until it ends, or give another folder."
