"""Ranking of the candidates of ``featlift benchmark``: a table, accuracy against latency, and a report."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from featlift import report
from featlift.data.dataset import ImageDataset
from featlift.evaluation.bootstrap import ConfidenceInterval
from featlift.evaluation.coco_metrics import COCO_IOU_TYPES, IoUType
from featlift.evaluation.seeds import paired_seed_bootstrap
from featlift.profiling import Latency
from featlift.report.pareto import ParetoPoints
from featlift.report.records import RunRecord
from featlift.runs.comparison import compare_runs
from featlift.runs.evaluate import build_report_dataset

RANKED_METRICS = ("ap", "ap_tiny", "ap_small")

RunsByCandidate = Mapping[str, Sequence[RunRecord]]
"""Candidate name → its runs, one per seed. The first candidate is the reference of all differences."""


def build_ranking(
    records: RunsByCandidate,
    steps: Mapping[str, int],
    latencies: Mapping[str, Latency],
    dataset: ImageDataset,
    n_resamples: int,
) -> list[dict[str, Any]]:
    """Build one row per candidate.

    A row has mean ± standard deviation over seeds in percent, differences to the first candidate with their 95 % intervals, and costs.

    Args:
        records: Runs of each candidate; the first candidate is the reference.
        steps: Training steps of each candidate.
        latencies: Interleaved latencies of the candidates.
        dataset: Validation images of all runs.
        n_resamples: Resamples of the paired bootstrap.
    """
    truth, first = dataset.coco(), next(iter(records))
    reference = [run.detections for run in records[first]]
    rows = []
    for name, runs in records.items():
        row: dict[str, Any] = {"interpolator": name, "steps": steps[name]}
        iou_types: list[IoUType] = [iou_type for iou_type in COCO_IOU_TYPES if iou_type in runs[0].metrics]
        for iou_type in iou_types:
            row |= _format_mean_std(runs, iou_type)
            if name != first:
                detections = [run.detections for run in runs]
                intervals = paired_seed_bootstrap(truth, reference, detections, iou_type, n_resamples)
                row |= _format_differences(intervals, iou_type)
        profiles = [run.profile for run in runs if run.profile]
        row |= {"parameters": profiles[0].num_parameters if profiles else None}
        row |= {"minutes": round(mean(run.minutes or 0 for run in runs), 1)}
        row |= {"ms": round(1000 * latencies[name].median, 1)}
        rows.append(row | {"latency ratio": round(latencies[name].median / latencies[first].median, 2)})
    return rows


def _format_mean_std(runs: Sequence[RunRecord], iou_type: IoUType) -> dict[str, Any]:
    cells: dict[str, Any] = {}
    for key in RANKED_METRICS:
        values = [100 * run.metrics[iou_type][key] for run in runs if run.metrics[iou_type].get(key) is not None]
        spread = f" ± {stdev(values):.1f}" if len(values) > 1 else ""
        cells[f"{_metric_title(key)} {iou_type}"] = f"{mean(values):.1f}{spread}" if values else None
    return cells


def _format_differences(intervals: Mapping[str, ConfidenceInterval], iou_type: IoUType) -> dict[str, str]:
    return {
        f"Δ {_metric_title(key)} {iou_type} [95 % CI]": intervals[key].percent_text
        for key in RANKED_METRICS
        if key in intervals
    }


def _metric_title(key: str) -> str:
    return key.replace("ap", "AP").replace("_", " ")


def build_pareto_points(records: RunsByCandidate, latencies: Mapping[str, Latency]) -> ParetoPoints:
    """Return name → latency in ms per image and box AP of each seed in percent, after :func:`remove_seed_effect`."""
    box_ap = {name: [100 * run.metrics["boxes"]["ap"] for run in runs] for name, runs in records.items()}
    centered = remove_seed_effect(box_ap)
    return {name: (1000 * latencies[name].median, centered[name]) for name in records}


def remove_seed_effect(values: dict[str, list[float]]) -> dict[str, list[float]]:
    """Subtract the mean over candidates of each seed and add the mean over all seeds; the mean of each candidate is unchanged.

    All candidates of a seed share their initial detector. Its quality would mask how much the candidates differ between seeds.
    """
    seed_means = [mean(seed) for seed in zip(*values.values(), strict=True)]
    return {
        name: [value - m + mean(seed_means) for value, m in zip(by_seed, seed_means, strict=True)]
        for name, by_seed in values.items()
    }


def write_ranking_report(
    folder: Path, records: RunsByCandidate, latencies: Mapping[str, Latency], dataset: ImageDataset, n_resamples: int
) -> Path:
    """Write ``report.html`` and return its path.

    It compares the runs of the first seed, and lists the objects that the best other candidate gained and lost against the reference.
    """
    runs = [rename_run(name, by_seed[0], latencies[name]) for name, by_seed in records.items()]
    points = build_pareto_points(records, latencies)
    first, *others = runs
    best = max(others, key=lambda run: mean(points[run.name][1]), default=None)
    comparisons = [compare_runs([first, best], dataset, n_resamples)] if best else []
    title = f"{len(runs)} interpolators at equal budget: first seed"
    return report.write_report(folder, runs, comparisons, build_report_dataset(dataset), None, title, points)


def rename_run(name: str, run: RunRecord, latency: Latency) -> RunRecord:
    """Return the run under its candidate name and with its interleaved ``latency``."""
    return replace(run, name=name, profile=run.profile and replace(run.profile, latency=latency))


def print_ranking(ranking: Sequence[Mapping[str, Any]], title: str) -> None:
    """Print the rows of :func:`build_ranking` as a table."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    columns = list(dict.fromkeys(column for row in ranking for column in row))
    table = Table(*columns, box=box.SIMPLE_HEAD, title=title, title_justify="left")
    for row in ranking:
        cells = [row.get(column) for column in columns]
        table.add_row(
            *(f"{c:,}" if isinstance(c, int) else "" if c is None else str(c).replace("[", r"\[") for c in cells)
        )
    console = Console(highlight=False)
    console.width = max(console.width, console.measure(table, options=console.options.update(width=400)).maximum)
    console.print(table)
