"""Tables of a report as rows of text: AP × 100 with one decimal, as in papers, and costs with ratios."""

from collections.abc import Sequence
from dataclasses import dataclass

from featlift.evaluation.bootstrap import ConfidenceInterval
from featlift.evaluation.comparison import Comparison
from featlift.report.records import RunRecord

METRIC_TITLES = {
    "ap": "AP",
    "ap50": "AP50",
    "ap75": "AP75",
    "ap_tiny": "AP tiny",
    "ap_small": "AP small",
    "ap_medium": "AP medium",
    "ap_large": "AP large",
    "ar": "AR",
    "ar_tiny": "AR tiny",
    "ar_small": "AR small",
}
MISSING_VALUE = "–"


@dataclass(frozen=True)
class TableCell:
    """A table cell: ``text``, the signed ``change`` to the reference, its ``interval``, and the ``verdict`` "better", "worse" or ""."""

    text: str
    change: str = ""
    interval: ConfidenceInterval | None = None
    verdict: str = ""


@dataclass(frozen=True)
class TableRow:
    """A row of a table; the first cell belongs to the reference run."""

    name: str
    cells: list[TableCell]


def metric_rows(runs: Sequence[RunRecord], comparisons: Sequence[Comparison], iou_type: str) -> list[TableRow]:
    """Return AP and AR of every run for ``iou_type``, with differences to the first run and the intervals of ``comparisons``."""
    rows = []
    for key, name in METRIC_TITLES.items():
        values = [run.metrics.get(iou_type, {}).get(key) for run in runs]
        if any(value is not None for value in values):
            intervals = [_find_interval(comparisons, runs[0], run, iou_type, key) for run in runs]
            cells = [_build_metric_cell(value, values[0], intervals[i], i == 0) for i, value in enumerate(values)]
            rows.append(TableRow(name, cells))
    return rows


def class_rows(runs: Sequence[RunRecord], iou_type: str) -> list[TableRow]:
    """Return the AP of each class for which any run has a value."""
    per_class = [run.metrics.get(iou_type, {}).get("per_class", {}) for run in runs]
    names = [name for name in per_class[0] if any(classes.get(name) is not None for classes in per_class)]
    rows = []
    for name in names:
        values = [classes.get(name) for classes in per_class]
        rows.append(
            TableRow(name, [_build_metric_cell(value, values[0], None, i == 0) for i, value in enumerate(values)])
        )
    return rows


def _find_interval(
    comparisons: Sequence[Comparison], first: RunRecord, second: RunRecord, iou_type: str, key: str
) -> ConfidenceInterval | None:
    for comparison in comparisons:
        if (comparison.first_name, comparison.second_name) == (first.name, second.name):
            return next(
                (intervals.get(key) for name, intervals in comparison.intervals.items() if name == iou_type), None
            )
    return None


def _build_metric_cell(
    value: float | None, reference: float | None, interval: ConfidenceInterval | None, is_first: bool
) -> TableCell:
    if value is None:
        return TableCell(MISSING_VALUE)
    if reference is None or is_first:
        return TableCell(format_percent(value))
    is_significant = interval is not None and interval.is_significant
    verdict = "" if not is_significant else "better" if value > reference else "worse"
    return TableCell(format_percent(value), format_signed_percent(value - reference), interval, verdict)


def format_percent(value: float) -> str:
    """Format a fraction in percent: 0.3741 → "37.4"."""
    return f"{100 * value:.1f}"


def format_signed_percent(value: float) -> str:
    """Format a difference of fractions in percent, with a typographic minus sign: 0.0191 → "+1.9"."""
    return f"{100 * value:+.1f}".replace("-", "−")


def cost_rows(runs: Sequence[RunRecord]) -> list[TableRow]:
    """Return parameters, multiply-adds, latency, memory and training time of each run, with ratios to the first run."""
    costs = [_cost_values(run) for run in runs]
    names = dict.fromkeys(name for cost in costs for name in cost)
    return [
        TableRow(name, [_build_cost_cell(cost.get(name), costs[0].get(name), i) for i, cost in enumerate(costs)])
        for name in names
    ]


def _cost_values(run: RunRecord) -> dict[str, float]:
    values = {}
    if run.profile:
        values["Parameters, M"] = run.profile.num_parameters / 1e6
        values["Multiply-adds, G"] = run.profile.gmacs
        values["Latency, ms"] = 1e3 * run.profile.latency.median
        values["Peak memory, MB"] = run.profile.peak_memory / 1e6
    if run.minutes is not None:
        values["Training, minutes"] = run.minutes
    return values


def _build_cost_cell(value: float | None, reference: float | None, position: int) -> TableCell:
    if value is None:
        return TableCell(MISSING_VALUE)
    return TableCell(format_significant(value), f"{value / reference:.2f}×" if position and reference else "")


def format_significant(value: float) -> str:
    """Format with three significant digits, or as an integer from 100 on: 7.8346 → "7.83", 12345 → "12,345"."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:#.3g}".rstrip(".")
