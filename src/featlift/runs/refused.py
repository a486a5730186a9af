"""A refused training leaves no run folder."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from featlift.checkpoints.folder_lock import HOLDER_FILE, LOCK_FILE

EMPTY_RUN_FILES = {"settings.json", "run.json", "data.txt", "data.json", LOCK_FILE, HOLDER_FILE}
"""Files of a run that has not taken a step."""


@contextmanager
def discard_refused_run(folder: str | Path) -> Iterator[None]:
    """Remove ``folder``, and the parents made for it, if the body raises before the run's first step.

    A folder that was there before, or that holds anything else than :data:`EMPTY_RUN_FILES`, stays. Under ``torchrun`` only
    process 0 removes it.
    """
    folder = Path(folder)
    created = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        yield
    except Exception:
        if os.environ.get("RANK", "0") == "0" and folder in created and folder.is_dir():
            _remove(created)
        raise


def _remove(created: list[Path]) -> None:
    """Remove the folders ``created``, innermost first, up to the first that holds something."""
    files = list(created[0].iterdir())
    if not {file.name for file in files} <= EMPTY_RUN_FILES:
        return
    for file in files:
        file.unlink()
    for folder in created:
        if any(folder.iterdir()):
            return
        folder.rmdir()
