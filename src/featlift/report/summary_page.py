"""A short page of several comparisons: sentences, a table, and objects gained and lost; details are on the reports that it links to."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from featlift.checkpoints.atomic import write_atomic
from featlift.evaluation.comparison import Comparison
from featlift.report.curves import run_color
from featlift.report.examples import ComparisonExamples, ImagePair, ReportDataset
from featlift.report.records import RunRecord
from featlift.report.tables import TableCell, TableRow, format_significant, metric_rows
from featlift.report.templates import load_template

METRICS = ("AP", "AP tiny", "AP small", "AP medium", "AR small")


@dataclass(frozen=True)
class Section:
    """A comparison of several runs on a summary page.

    Attributes:
        title: Heading.
        paragraphs: Text before the table.
        columns: Names of the runs.
        rows: Rows of the table.
        examples: Heading → enlarged objects, first and second run.
        link: Relative path of the detailed report, or empty.
    """

    title: str
    paragraphs: list[str]
    columns: list[str]
    rows: list[TableRow]
    examples: dict[str, list[ImagePair]] = field(default_factory=dict)
    link: str = ""


def write_summary_page(path: Path, title: str, introduction: str, sections: Sequence[Section]) -> Path:
    """Write the self-contained HTML page ``path`` and return the path."""
    colors = [run_color(position) for position in range(max((len(s.columns) for s in sections), default=0))]
    page = load_template("summary.html").render(
        title=title, introduction=introduction, sections=sections, colors=colors
    )
    return write_atomic(path, page)


def summary_rows(runs: Sequence[RunRecord], comparisons: Sequence[Comparison]) -> list[TableRow]:
    """Rows of a section: AP and AR of `METRICS`, objects gained and lost, false positives, and milliseconds per image.

    Args:
        runs: Runs; the first is the reference.
        comparisons: Comparison of every other run with the first, in this order.
    """
    rows = [row for row in metric_rows(runs, comparisons, "boxes") if row.name in METRICS]
    return [*rows, *_object_rows(comparisons), *_time_rows(runs)]


def _object_rows(comparisons: Sequence[Comparison]) -> list[TableRow]:
    changes = [comparison.object_changes for comparison in comparisons]
    gained, lost = ([len(change.with_outcome(name)) for change in changes] for name in ("gained", "lost"))
    false = [changes[0].false_positives[0], *(change.false_positives[1] for change in changes)] if changes else []
    cells = [TableCell(f"+{g} −{n}", f"of {len(c.outcomes)}") for g, n, c in zip(gained, lost, changes, strict=True)]
    return [
        TableRow("Objects gained and lost", [TableCell(""), *cells]),
        TableRow("False positives", [TableCell(str(count)) for count in false]),
    ]


def _time_rows(runs: Sequence[RunRecord]) -> list[TableRow]:
    milliseconds = [1e3 * run.profile.latency.median if run.profile else None for run in runs]
    if None in milliseconds:
        return []
    cells = [
        TableCell(format_significant(value or 0), f"{(value or 0) / (milliseconds[0] or 1):.2f}×" if position else "")
        for position, value in enumerate(milliseconds)
    ]
    return [TableRow("Milliseconds per image", cells)]


def object_examples(
    dataset: ReportDataset, comparison: Comparison, runs: tuple[RunRecord, RunRecord], max_count: int
) -> dict[str, list[ImagePair]]:
    """Return the ``max_count`` most confident objects that the second run gained, and as many that it lost, with headings."""
    examples = ComparisonExamples(dataset, comparison, runs)
    pairs = {outcome: examples.object_pairs(outcome, max_count) for outcome in ("gained", "lost")}
    totals = {outcome: len(comparison.object_changes.with_outcome(outcome)) for outcome in ("gained", "lost")}
    return {
        f"{outcome.capitalize()}: the {len(shown)} most confident of {totals[outcome]}": shown
        for outcome, shown in pairs.items()
        if shown
    }
