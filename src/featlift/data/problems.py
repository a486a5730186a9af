"""What a dataset says of itself before anything is trained on it: what it has, what was left out, and why."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

MAX_PRINTED_PROBLEMS = 10
"""How many problems of a kind are printed; the rest is counted."""


@dataclass(frozen=True)
class DataProblem:
    """Something wrong: in which file, with which entry of it, and what. ``kind`` sorts problems of one sort
    together.
    """

    file: Path
    location: str
    kind: str
    message: str

    def __str__(self) -> str:
        return f"{self.file}: {self.location}: {self.message}"


class DatasetError(ValueError):
    """The data cannot be used as they are. ``problems`` has all of them; the message shows the first ten."""

    def __init__(self, problems: Sequence[DataProblem], hint: str = "") -> None:
        self.problems = list(problems)
        super().__init__("\n".join([*_format_problems(self.problems), *([hint] if hint else [])]))


@dataclass
class DatasetReport:
    """What was read from ``file``, and everything that was left out with the reason. ``print`` it.

    ``num_images`` and ``num_objects`` are what is left; ``num_empty_images`` pictures have no object and are kept; ``num_crowds`` are
    regions that evaluation knows of and training does not; ``num_clipped_boxes`` boxes reached up to a pixel out of their
    picture.
    """

    file: Path
    num_images: int = 0
    num_objects: int = 0
    num_classes: int = 0
    num_empty_images: int = 0
    num_crowds: int = 0
    num_clipped_boxes: int = 0
    notes: list[str] = field(default_factory=list)
    problems: list[DataProblem] = field(default_factory=list)

    def __str__(self) -> str:
        lines = [f"{self.file}: {self.num_images} pictures, {self.num_objects} objects of {self.num_classes} classes"]
        lines += [f"  {self.num_empty_images} pictures have no object (kept: they teach what is background)"] * (
            self.num_empty_images > 0
        )
        lines += [f"  {self.num_crowds} crowd regions are left out of training, kept for evaluation"] * (
            self.num_crowds > 0
        )
        lines += [f"  {self.num_clipped_boxes} boxes reached up to 1 px out of their picture and were clipped"] * (
            self.num_clipped_boxes > 0
        )
        lines += [f"  {note}" for note in self.notes]
        for kind, number in Counter(problem.kind for problem in self.problems).items():
            lines.append(f"  left out, {kind}: {number}")
            lines += [f"    {line}" for line in _format_problems([p for p in self.problems if p.kind == kind])]
        return "\n".join(lines)


def _format_problems(problems: Sequence[DataProblem]) -> list[str]:
    more = len(problems) - MAX_PRINTED_PROBLEMS
    return [str(problem) for problem in problems[:MAX_PRINTED_PROBLEMS]] + ([f"… and {more} more"] if more > 0 else [])
