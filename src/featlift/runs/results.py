"""Stored results of runs."""

from pathlib import Path
from typing import Any

from featlift.checkpoints.damage import read_json


def read_result(folder: Path) -> dict[str, Any]:
    """Read ``result.json`` of a run.

    Raises:
        FileNotFoundError: If the folder is not a run, or the run is not finished.
    """
    path = folder / "result.json"
    if not path.exists():
        raise FileNotFoundError(
            f"{folder} has no result.json: it is not a run, or not finished. Run the training again to resume."
        )
    return read_json(path, "Run the same command again.")


def read_paper(folder: str | Path) -> str:
    """Read from ``settings.json`` which paper a run folder was trained with; "baseline" for anything else, such as a detector file."""
    path = Path(folder) / "settings.json"
    return read_json(path).get("paper", "baseline") if path.is_file() else "baseline"
