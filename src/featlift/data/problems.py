"""What a dataset says of itself before anything is trained on it: what it has, what was left out, and why."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

SHOWN = 10
"""How many problems of a kind are printed; the rest is counted."""


@dataclass(frozen=True)
class Problem:
    """Something wrong: in which file, with which entry of it, and what. ``kind`` sorts problems of one sort
    together.
    """

    file: Path
    entry: str
    kind: str
    what: str

    def __str__(self) -> str:
        return f"{self.file}: {self.entry}: {self.what}"


class BrokenData(ValueError):
    """The data cannot be used as they are. ``problems`` has all of them; the message shows the first ten."""

    def __init__(self, problems: Sequence[Problem], advice: str = "") -> None:
        self.problems = list(problems)
        super().__init__("\n".join([*_first(self.problems), *([advice] if advice else [])]))


@dataclass
class Report:
    """What was read from ``file``, and everything that was left out with the reason. ``print`` it.

    ``pictures`` and ``objects`` are what is left; ``empty`` pictures have no object and are kept; ``crowds`` are
    regions that evaluation knows of and training does not; ``clipped`` boxes reached up to a pixel out of their
    picture.
    """

    file: Path
    pictures: int = 0
    objects: int = 0
    classes: int = 0
    empty: int = 0
    crowds: int = 0
    clipped: int = 0
    notes: list[str] = field(default_factory=list)
    skipped: list[Problem] = field(default_factory=list)

    def __str__(self) -> str:
        lines = [f"{self.file}: {self.pictures} pictures, {self.objects} objects of {self.classes} classes"]
        lines += [f"  {self.empty} pictures have no object (kept: they teach what is background)"] * (self.empty > 0)
        lines += [f"  {self.crowds} crowd regions are left out of training, kept for evaluation"] * (self.crowds > 0)
        lines += [f"  {self.clipped} boxes reached up to 1 px out of their picture and were clipped"] * (
            self.clipped > 0
        )
        lines += [f"  {note}" for note in self.notes]
        for kind, number in Counter(problem.kind for problem in self.skipped).items():
            lines.append(f"  left out, {kind}: {number}")
            lines += [f"    {line}" for line in _first([p for p in self.skipped if p.kind == kind])]
        return "\n".join(lines)


def _first(problems: Sequence[Problem]) -> list[str]:
    more = len(problems) - SHOWN
    return [str(problem) for problem in problems[:SHOWN]] + ([f"… and {more} more"] if more > 0 else [])
