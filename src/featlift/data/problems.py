"""Dataset reports: the counts of a dataset, and its invalid entries with reasons."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

MAX_PRINTED_PROBLEMS = 10
"""Maximum number of printed problems per kind; the others are counted."""


@dataclass(frozen=True)
class DataProblem:
    """Invalid entry: the file, the entry's location in it, and a message. Reports group problems by ``kind``."""

    file: Path
    location: str
    kind: str
    message: str

    def __str__(self) -> str:
        return f"{self.file}: {self.location}: {self.message}"


class DatasetError(ValueError):
    """A dataset is invalid. ``problems`` lists all problems; the message contains the first ten."""

    def __init__(self, problems: Sequence[DataProblem], hint: str = "") -> None:
        self.problems = list(problems)
        super().__init__("\n".join([*_format_problems(self.problems), *([hint] if hint else [])]))


@dataclass
class DatasetReport:
    """Counts of the valid entries of ``file``, and the problems of the skipped ones. ``str()`` formats them for printing.

    ``num_empty_images`` counts images without objects, which are kept; ``num_crowds`` counts crowd regions, which are used
    in evaluation only; ``num_clipped_boxes`` counts boxes that exceeded their image by up to one pixel.
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
        lines = [f"{self.file}: {self.num_images} images, {self.num_objects} objects of {self.num_classes} classes"]
        if self.num_empty_images:
            lines.append(f"  {self.num_empty_images} images have no object (kept as background examples)")
        if self.num_crowds:
            lines.append(f"  {self.num_crowds} crowd regions are excluded from training, kept for evaluation")
        if self.num_clipped_boxes:
            lines.append(f"  {self.num_clipped_boxes} boxes exceeded their image by up to 1 px and were clipped")
        lines += [f"  {note}" for note in self.notes]
        for kind, count in Counter(problem.kind for problem in self.problems).items():
            lines.append(f"  skipped, {kind}: {count}")
            lines += [f"    {line}" for line in _format_problems([p for p in self.problems if p.kind == kind])]
        return "\n".join(lines)


def _format_problems(problems: Sequence[DataProblem]) -> list[str]:
    rest = len(problems) - MAX_PRINTED_PROBLEMS
    return [str(problem) for problem in problems[:MAX_PRINTED_PROBLEMS]] + ([f"… and {rest} more"] if rest > 0 else [])
