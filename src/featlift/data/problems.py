"""Dataset reports: the counts of a dataset, and its invalid entries with reasons."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

MAX_PRINTED_PROBLEMS = 10
"""Maximum number of printed problems per kind; the others are counted."""
MAX_EXAMPLES = 3
"""Maximum number of printed examples of a finding."""


Effect = Literal["skipped", "object ignored", "kept", "image left out"]
"""What ``skip_broken`` does with an invalid entry."""
SKIPPED: Effect = "skipped"
"""The entry is not read: it describes no region of a known image."""
IGNORED: Effect = "object ignored"
"""Its region is neither an object nor background."""
KEPT: Effect = "kept"
"""The object is used, without its fault."""
LEFT_OUT: Effect = "image left out"
"""The region of an object is unknown, so its image would teach a false background."""


@dataclass(frozen=True)
class DataProblem:
    """Invalid entry: the file, the entry's location in it, and a message. Reports group problems by ``kind`` and ``effect``."""

    file: Path
    location: str
    kind: str
    message: str
    effect: Effect = SKIPPED

    def __str__(self) -> str:
        return f"{self.file}: {self.location}: {self.message}"


@dataclass(frozen=True)
class Finding:
    """What ``featlift data check`` found: an error, with which training would be wrong, or a warning, which may be meant.

    ``examples`` has an entry for each occurrence; `MAX_EXAMPLES` are printed.
    """

    severity: Literal["error", "warning"]
    title: str
    examples: list[str]

    def __str__(self) -> str:
        shown = "; ".join(self.examples[:MAX_EXAMPLES])
        return f"{self.severity}: {len(self.examples)} x {self.title}: {shown}{'; …' if len(self.examples) > MAX_EXAMPLES else ''}"


class DatasetError(ValueError):
    """A dataset is invalid. ``problems`` lists all problems; the message contains the first ten."""

    def __init__(self, problems: Sequence[DataProblem], hint: str = "") -> None:
        self.problems = list(problems)
        super().__init__("\n".join([*_format_problems(self.problems), *([hint] if hint else [])]))


@dataclass
class DatasetReport:
    """Counts of the valid entries of ``file``, and the problems of the skipped ones. ``str()`` formats them for printing.

    ``num_empty_images`` counts images without objects, which are kept; ``num_crowds`` counts crowd regions, which are used
    in evaluation only; ``num_ignored`` counts ignored regions, which are neither object nor background;
    ``num_clipped_boxes`` counts boxes that exceeded their image.
    """

    file: Path
    num_images: int = 0
    num_objects: int = 0
    num_classes: int = 0
    num_empty_images: int = 0
    num_crowds: int = 0
    num_ignored: int = 0
    num_clipped_boxes: int = 0
    notes: list[str] = field(default_factory=list)
    problems: list[DataProblem] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    def __str__(self) -> str:
        lines = [f"{self.file}: {self.num_images} images, {self.num_objects} objects of {self.num_classes} classes"]
        if self.num_empty_images:
            lines.append(f"  {self.num_empty_images} images have no object (kept as background examples)")
        if self.num_crowds:
            lines.append(f"  {self.num_crowds} crowd regions are excluded from training, kept for evaluation")
        if self.num_ignored:
            lines.append(
                f"  {self.num_ignored} ignored regions are neither object nor background, in training and evaluation"
            )
        if self.num_clipped_boxes:
            lines.append(f"  {self.num_clipped_boxes} boxes exceeded their image and were clipped")
        lines += [f"  {note}" for note in [*self.notes, *self.findings]]
        for (effect, kind), count in Counter((p.effect, p.kind) for p in self.problems).items():
            lines.append(f"  {effect}, {kind}: {count}")
            group = [problem for problem in self.problems if (problem.effect, problem.kind) == (effect, kind)]
            lines += [f"    {line}" for line in _format_problems(group)]
        return "\n".join(lines)


def _format_problems(problems: Sequence[DataProblem]) -> list[str]:
    rest = len(problems) - MAX_PRINTED_PROBLEMS
    return [str(problem) for problem in problems[:MAX_PRINTED_PROBLEMS]] + ([f"… and {rest} more"] if rest > 0 else [])
