"""How those who compete in ``featlift versus`` stand in the end: a table, accuracy against time, and a page."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from featlift import report
from featlift.commands import compare
from featlift.commands.train import evidence
from featlift.data.dataset import Pictures
from featlift.evaluation.average_precision import KINDS, Kind
from featlift.evaluation.bootstrap import Interval
from featlift.evaluation.profiling import Latency
from featlift.evaluation.seeds import paired
from featlift.report.pareto import Points
from featlift.report.records import RunRecord

SHOWN = ("ap", "ap_tiny", "ap_small")

Records = Mapping[str, Sequence[RunRecord]]
"""Name → its runs, one of each seed. The first name is the one that the others are compared with."""


def rows(
    records: Records, steps: Mapping[str, int], taken: Mapping[str, Latency], shown: Pictures, resamples: int
) -> list[dict[str, Any]]:
    """A row for each: mean and spread (standard deviation over seeds) in per cent, what it has over the first [95 %], and its cost."""
    truth, first = shown.coco(), next(iter(records))
    reference = [run.detections for run in records[first]]
    found = []
    for name, runs in records.items():
        row: dict[str, Any] = {"interpolator": name, "steps": steps[name]}
        kinds: list[Kind] = [kind for kind in KINDS if kind in runs[0].metrics]
        for kind in kinds:
            row |= _spread(runs, kind)
            if name != first:
                row |= _gained(paired(truth, reference, [run.detections for run in runs], kind, resamples), kind)
        costs = [run.cost for run in runs if run.cost]
        row |= {"parameters": costs[0].parameters if costs else None}
        row |= {"minutes": round(mean(run.minutes or 0 for run in runs), 1)}
        row |= {"ms": round(1000 * taken[name].median, 1)}
        found.append(row | {"x the first": round(taken[name].median / taken[first].median, 2)})
    return found


def _spread(runs: Sequence[RunRecord], kind: Kind) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key in SHOWN:
        values = [100 * run.metrics[kind][key] for run in runs if run.metrics[kind].get(key) is not None]
        spread = f" ± {stdev(values):.1f}" if len(values) > 1 else ""
        found[f"{_title(key)} {kind}"] = f"{mean(values):.1f}{spread}" if values else None
    return found


def _gained(intervals: Mapping[str, Interval], kind: Kind) -> dict[str, str]:
    return {f"Δ {_title(key)} {kind} [95 %]": intervals[key].percent for key in SHOWN if key in intervals}


def _title(key: str) -> str:
    return key.replace("ap", "AP").replace("_", " ")


def points(records: Records, taken: Mapping[str, Latency]) -> Points:
    """Name → milliseconds a picture, and box AP of each seed in per cent, :func:`levelled`."""
    levels = levelled({name: [100 * run.metrics["boxes"]["ap"] for run in runs] for name, runs in records.items()})
    return {name: (1000 * taken[name].median, levels[name]) for name in records}


def levelled(values: dict[str, list[float]]) -> dict[str, list[float]]:
    """Values of each seed without what all have in common in that seed; everyone's mean stays.

    One start may be better than another. That says nothing of the contestants, and would hide how much they differ from seed to seed.
    """
    common = [mean(seed) for seed in zip(*values.values(), strict=True)]
    return {name: [one - c + mean(common) for one, c in zip(own, common, strict=True)] for name, own in values.items()}


def page(folder: Path, records: Records, taken: Mapping[str, Latency], shown: Pictures, resamples: int) -> Path:
    """``report.html``: everyone's run of the first seed side by side, and what the best of the others gained and lost against the first."""
    runs = [called(name, own[0], taken[name]) for name, own in records.items()]
    dots = points(records, taken)
    first, *others = runs
    best = max(others, key=lambda run: mean(dots[run.name][1]), default=None)
    found = [compare.comparison([first, best], shown, resamples)] if best else []
    title = f"{len(runs)} interpolators at equal budget: the first seed"
    return report.write(folder, runs, found, evidence(shown), None, title, dots)


def called(name: str, run: RunRecord, taken: Latency) -> RunRecord:
    """The run under the name it competes with, and with the time that was measured in turns."""
    return replace(run, name=name, cost=run.cost and replace(run.cost, latency=taken))


def show(table: Sequence[Mapping[str, Any]], title: str) -> None:
    """Print the :func:`rows`."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    columns = list(dict.fromkeys(column for row in table for column in row))
    drawn = Table(*columns, box=box.SIMPLE_HEAD, title=title, title_justify="left")
    for row in table:
        cells = [row.get(column) for column in columns]
        drawn.add_row(
            *(f"{c:,}" if isinstance(c, int) else "" if c is None else str(c).replace("[", r"\[") for c in cells)
        )
    console = Console(highlight=False)
    console.width = max(console.width, console.measure(drawn, options=console.options.update(width=400)).maximum)
    console.print(drawn)
