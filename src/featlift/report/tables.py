"""The numbers of a report as rows of text: AP × 100 with one decimal (as papers print it), costs with their ratio."""

from collections.abc import Sequence
from dataclasses import dataclass

from featlift.evaluation.bootstrap import Interval
from featlift.evaluation.comparison import Comparison
from featlift.report.records import RunRecord

HEADLINE = {
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
ABSENT = "–"


@dataclass(frozen=True)
class Cell:
    """One number: ``text``, and beside the reference its ``change`` (signed), ``interval``, and whether that is
    "better" or "worse".
    """

    text: str
    change: str = ""
    interval: Interval | None = None
    verdict: str = ""


@dataclass(frozen=True)
class Row:
    """A row of a table; the first cell belongs to the run the others are compared with."""

    name: str
    cells: list[Cell]


def metric_rows(runs: Sequence[RunRecord], comparisons: Sequence[Comparison], kind: str) -> list[Row]:
    """AP and AR of every run for ``kind``, with differences to the first; intervals where a comparison has them."""
    rows = []
    for key, name in HEADLINE.items():
        values = [run.metrics.get(kind, {}).get(key) for run in runs]
        if any(value is not None for value in values):
            intervals = [_interval(comparisons, runs[0], run, kind, key) for run in runs]
            cells = [_cell(value, values[0], intervals[i], i == 0) for i, value in enumerate(values)]
            rows.append(Row(name, cells))
    return rows


def class_rows(runs: Sequence[RunRecord], kind: str) -> list[Row]:
    """AP of each class that any run has a number for."""
    per_class = [run.metrics.get(kind, {}).get("per_class", {}) for run in runs]
    names = [name for name in per_class[0] if any(classes.get(name) is not None for classes in per_class)]
    rows = []
    for name in names:
        values = [classes.get(name) for classes in per_class]
        rows.append(Row(name, [_cell(value, values[0], None, i == 0) for i, value in enumerate(values)]))
    return rows


def _interval(
    comparisons: Sequence[Comparison], first: RunRecord, second: RunRecord, kind: str, key: str
) -> Interval | None:
    for comparison in comparisons:
        if (comparison.first, comparison.second) == (first.name, second.name):
            return next((of.get(key) for name, of in comparison.intervals.items() if name == kind), None)
    return None


def _cell(value: float | None, reference: float | None, interval: Interval | None, first: bool) -> Cell:
    if value is None:
        return Cell(ABSENT)
    if reference is None or first:
        return Cell(percent(value))
    certain = interval is not None and interval.certain
    verdict = "" if not certain else "better" if value > reference else "worse"
    return Cell(percent(value), signed(value - reference), interval, verdict)


def percent(value: float) -> str:
    """0.3741 → "37.4"."""
    return f"{100 * value:.1f}"


def signed(value: float) -> str:
    """0.0191 → "+1.9"; a true minus sign."""
    return f"{100 * value:+.1f}".replace("-", "−")


def cost_rows(runs: Sequence[RunRecord]) -> list[Row]:
    """Parameters, multiply-adds, time and memory of each run that has them, and the ratio to the first run's."""
    costs = [_costs(run) for run in runs]
    names = dict.fromkeys(name for cost in costs for name in cost)
    return [
        Row(name, [_cost_cell(cost.get(name), costs[0].get(name), i) for i, cost in enumerate(costs)]) for name in names
    ]


def _costs(run: RunRecord) -> dict[str, float]:
    numbers = {}
    if run.cost:
        numbers["Parameters, M"] = run.cost.parameters / 1e6
        numbers["Multiply-adds, G"] = run.cost.gmac
        numbers["Latency, ms"] = 1e3 * run.cost.latency.median
        numbers["Peak memory, MB"] = run.cost.memory / 1e6
    if run.minutes is not None:
        numbers["Training, minutes"] = run.minutes
    return numbers


def _cost_cell(value: float | None, reference: float | None, position: int) -> Cell:
    if value is None:
        return Cell(ABSENT)
    return Cell(short(value), f"{value / reference:.2f}×" if position and reference else "")


def short(value: float) -> str:
    """Three digits that matter: 7.8346 → "7.83", 12345 → "12,345"."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:#.3g}".rstrip(".")
