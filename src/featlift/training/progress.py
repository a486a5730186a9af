"""Progress display: a bar in a terminal, plain lines in a file, nothing on ranks other than 0.

The three classes share one interface: a context manager with `update(step, losses)`, called when ``step`` steps are done.
"""

import sys
import time
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import track as rich_track

_ItemT = TypeVar("_ItemT")

NUM_LINES = 10


class SilentProgress:
    """No output."""

    def __enter__(self) -> "SilentProgress":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return

    def update(self, step: int, losses: Mapping[str, float]) -> None:
        """Report that ``step`` steps are done, with the ``losses`` of the last log record."""


class LineProgress(SilentProgress):
    """One line per tenth of the stage: steps, losses, steps per second, time left."""

    def __init__(self, stage: str, start: int, total_steps: int) -> None:
        self.stage, self.start, self.total_steps = stage, start, total_steps
        self.started_at = time.perf_counter()

    def update(self, step: int, losses: Mapping[str, float]) -> None:
        """Print a line if another tenth is done."""
        if step * NUM_LINES // self.total_steps == (step - 1) * NUM_LINES // self.total_steps:
            return
        pace = (step - self.start) / max(time.perf_counter() - self.started_at, 1e-9)
        left = _format_duration((self.total_steps - step) / max(pace, 1e-9))
        print(
            " · ".join(
                [f"{self.stage} {step}/{self.total_steps}", *_format_losses(losses), f"{pace:.2f} it/s", f"{left} left"]
            ),
            flush=True,
        )


class ProgressBar(SilentProgress):
    """A progress bar with losses, steps per second and time left."""

    def __init__(self, stage: str, start: int, total_steps: int) -> None:
        self.start, self.started_at = start, time.perf_counter()
        self.bar = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[pace]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[losses]}", style="dim"),
        )
        self.task = self.bar.add_task(stage, total=total_steps, completed=start, pace="", losses="")

    def __enter__(self) -> "ProgressBar":
        self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.stop()

    def update(self, step: int, losses: Mapping[str, float]) -> None:
        """Advance the bar to ``step`` and show ``losses``."""
        pace = (step - self.start) / max(time.perf_counter() - self.started_at, 1e-9)
        self.bar.update(self.task, completed=step, pace=f"{pace:.2f} it/s", losses="  ".join(_format_losses(losses)))


def make_progress(stage: str, start: int, total_steps: int, is_visible: bool) -> SilentProgress:
    """Return the progress display for this process: none unless ``is_visible``, else a bar in a terminal or lines."""
    if not is_visible:
        return SilentProgress()
    return (
        ProgressBar(stage, start, total_steps)
        if Console(file=sys.stdout).is_terminal
        else LineProgress(stage, start, total_steps)
    )


def _format_losses(losses: Mapping[str, float]) -> list[str]:
    return [f"{name} {value:.4g}" for name, value in losses.items()]


def _format_duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"


def track(
    items: Iterable[_ItemT], description: str, is_visible: bool = True, total: int | None = None
) -> Iterable[_ItemT]:
    """Iterate over ``items``, ``total`` in number (None: their length, if they have one), with a bar in a terminal; for work other than
    training.
    """
    return rich_track(items, description=description, disable=not is_visible, total=total)
