"""How those who compete in ``featlift versus`` stand in the end: a table, accuracy against time, and a page."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from featlift import report
from featlift.commands import compare
from featlift.commands.train import build_report_dataset
from featlift.data.dataset import ImageDataset
from featlift.evaluation.average_precision import COCO_IOU_TYPES, IoUType
from featlift.evaluation.bootstrap import ConfidenceInterval
from featlift.evaluation.profiling import Latency
from featlift.evaluation.seeds import paired_seed_bootstrap
from featlift.report.pareto import ParetoPoints
from featlift.report.records import RunRecord

RANKED_METRICS = ("ap", "ap_tiny", "ap_small")

RunsByCandidate = Mapping[str, Sequence[RunRecord]]
"""Name → its runs, one of each seed. The first name is the one that the others are compared with."""


def build_ranking(
    records: RunsByCandidate,
    steps: Mapping[str, int],
    latencies: Mapping[str, Latency],
    dataset: ImageDataset,
    n_resamples: int,
) -> list[dict[str, Any]]:
    """A row for each: mean and spread (standard deviation over seeds) in per cent, what it has over the first [95 %], and its cost."""
    truth, first = dataset.coco(), next(iter(records))
    reference = [run.detections for run in records[first]]
    found = []
    for name, runs in records.items():
        row: dict[str, Any] = {"interpolator": name, "steps": steps[name]}
        kinds: list[IoUType] = [kind for kind in COCO_IOU_TYPES if kind in runs[0].metrics]
        for kind in kinds:
            row |= _format_mean_std(runs, kind)
            if name != first:
                row |= _format_differences(
                    paired_seed_bootstrap(truth, reference, [run.detections for run in runs], kind, n_resamples), kind
                )
        costs = [run.profile for run in runs if run.profile]
        row |= {"parameters": costs[0].num_parameters if costs else None}
        row |= {"minutes": round(mean(run.minutes or 0 for run in runs), 1)}
        row |= {"ms": round(1000 * latencies[name].median, 1)}
        found.append(row | {"x the first": round(latencies[name].median / latencies[first].median, 2)})
    return found


def _format_mean_std(runs: Sequence[RunRecord], iou_type: IoUType) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key in RANKED_METRICS:
        values = [100 * run.metrics[iou_type][key] for run in runs if run.metrics[iou_type].get(key) is not None]
        spread = f" ± {stdev(values):.1f}" if len(values) > 1 else ""
        found[f"{_metric_title(key)} {iou_type}"] = f"{mean(values):.1f}{spread}" if values else None
    return found


def _format_differences(intervals: Mapping[str, ConfidenceInterval], iou_type: IoUType) -> dict[str, str]:
    return {
        f"Δ {_metric_title(key)} {iou_type} [95 %]": intervals[key].percent_text
        for key in RANKED_METRICS
        if key in intervals
    }


def _metric_title(key: str) -> str:
    return key.replace("ap", "AP").replace("_", " ")


def build_pareto_points(records: RunsByCandidate, latencies: Mapping[str, Latency]) -> ParetoPoints:
    """Name → milliseconds a picture, and box AP of each seed in per cent, :func:`remove_seed_effect`."""
    levels = remove_seed_effect(
        {name: [100 * run.metrics["boxes"]["ap"] for run in runs] for name, runs in records.items()}
    )
    return {name: (1000 * latencies[name].median, levels[name]) for name in records}


def remove_seed_effect(values: dict[str, list[float]]) -> dict[str, list[float]]:
    """Values of each seed without what all have in common in that seed; everyone's mean stays.

    One start may be better than another. That says nothing of the contestants, and would hide how much they differ from seed to seed.
    """
    common = [mean(seed) for seed in zip(*values.values(), strict=True)]
    return {name: [one - c + mean(common) for one, c in zip(own, common, strict=True)] for name, own in values.items()}


def write_ranking_report(
    folder: Path, records: RunsByCandidate, latencies: Mapping[str, Latency], dataset: ImageDataset, n_resamples: int
) -> Path:
    """``report.html``: everyone's run of the first seed side by side, and what the best of the others gained and lost against the first."""
    runs = [rename_run(name, own[0], latencies[name]) for name, own in records.items()]
    dots = build_pareto_points(records, latencies)
    first, *others = runs
    best = max(others, key=lambda run: mean(dots[run.name][1]), default=None)
    found = [compare.compare_runs([first, best], dataset, n_resamples)] if best else []
    title = f"{len(runs)} interpolators at equal budget: the first seed"
    return report.write_report(folder, runs, found, build_report_dataset(dataset), None, title, dots)


def rename_run(name: str, run: RunRecord, latency: Latency) -> RunRecord:
    """The run under the name it competes with, and with the time that was measured in turns."""
    return replace(run, name=name, profile=run.profile and replace(run.profile, latency=latency))


def print_ranking(ranking: Sequence[Mapping[str, Any]], title: str) -> None:
    """Print the :func:`build_ranking`."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    columns = list(dict.fromkeys(column for row in ranking for column in row))
    drawn = Table(*columns, box=box.SIMPLE_HEAD, title=title, title_justify="left")
    for row in ranking:
        cells = [row.get(column) for column in columns]
        drawn.add_row(
            *(f"{c:,}" if isinstance(c, int) else "" if c is None else str(c).replace("[", r"\[") for c in cells)
        )
    console = Console(highlight=False)
    console.width = max(console.width, console.measure(drawn, options=console.options.update(width=400)).maximum)
    console.print(drawn)
