"""``featlift compare``: two runs on the same pictures."""

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from featlift import report
from featlift.commands.train import build_report_dataset, read_result
from featlift.data.dataset import ImageDataset
from featlift.data.fingerprint import dataset_fingerprint
from featlift.evaluation.average_precision import COCO_IOU_TYPES, IoUType
from featlift.evaluation.comparison import Comparison
from featlift.evaluation.comparison import compare_detections as compared
from featlift.features import Features
from featlift.papers import baseline
from featlift.report.records import RunRecord


def compare(first: str, second: str, out: str = "", n_resamples: int = 1000) -> Path:
    """What the second run gained and lost against the first, with intervals and pictures, as one ``report.html``.

    Args:
        first: the run to compare with.
        second: the run that is compared.
        out: folder for ``report.html``; by default the second run's.
        n_resamples: draws of pictures behind the intervals.
    """
    folders = (Path(first), Path(second))
    shown = load_common_dataset(folders)
    runs = [report.read_run(folder) for folder in folders]
    disambiguate_names(runs, folders)
    found = compare_runs(runs, shown, n_resamples)
    page = report.write_report(
        out or folders[1], runs, [found], build_report_dataset(shown), extract_feature_maps(runs, folders, shown)
    )
    print(format_comparison(runs, found))
    print(page)
    return page


def load_common_dataset(folders: tuple[Path, Path]) -> ImageDataset:
    """The validation pictures of both runs.

    Raises:
        ValueError: if they were measured on different pictures.
    """
    data = [read_result(folder)["data"] for folder in folders]
    shown = baseline.build_dataset(baseline.load_data_config(folders[0]), "val")
    if len({*data, dataset_fingerprint(shown)}) > 1:
        raise ValueError(
            f"{folders[0]} was measured on data {data[0]}, {folders[1]} on {data[1]}, and {dataset_fingerprint(shown)} is there now. "
            "Only runs on the same pictures can be compared: train both with one --data."
        )
    return shown


def disambiguate_names(runs: list[RunRecord], folders: tuple[Path, Path]) -> None:
    """Runs of equal name are called by their folders."""
    if runs[0].name == runs[1].name:
        for run, folder in zip(runs, folders, strict=True):
            run.name = folder.name if folders[0].name != folders[1].name else str(folder)


def compare_runs(runs: list[RunRecord], dataset: ImageDataset, n_resamples: int) -> Comparison:
    """Differences with intervals, and the fate of every object."""
    kinds: list[IoUType] = [kind for kind in COCO_IOU_TYPES if all(kind in run.metrics for run in runs)]
    names = (runs[0].name, runs[1].name)
    return compared(dataset.coco(), runs[0].detections, runs[1].detections, names, kinds, n_resamples)


def extract_feature_maps(
    runs: list[RunRecord], folders: tuple[Path, Path], dataset: ImageDataset
) -> dict[str, Features]:
    """The pyramids of both detectors on the first validation picture, and the picture itself (the papers' Figs. 2 and 7)."""
    image = dataset[0][0]
    return {
        run.name: _extract_pyramid(baseline.load_detector(folder)[0].eval(), image)
        for run, folder in zip(runs, folders, strict=True)
    }


@torch.inference_mode()
def _extract_pyramid(detector: baseline.Detector, image: Tensor) -> Features:
    batch, _ = detector.transform([image])
    return {"image": image[None], **detector.backbone(batch.tensors)}


def format_comparison(runs: list[RunRecord], comparison: Comparison) -> str:
    """AP, AP tiny and small, parameters, milliseconds and minutes of both runs, side by side, as text."""
    first, second = runs
    rows = [("", first.name, second.name, "difference [95 %]")]
    for kind, intervals in comparison.intervals.items():
        for key in ("ap", "ap_tiny", "ap_small"):
            if key in intervals:
                before, after = (f"{100 * run.metrics[kind][key]:.1f}" for run in runs)
                rows.append((f"{key.replace('_', ' ')} {kind}", before, after, intervals[key].percent_text))
    rows += _format_costs(first, second)
    widths = [max(len(row[i]) for row in rows) for i in range(4)]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)


def _format_costs(first: RunRecord, second: RunRecord) -> list[tuple[str, str, str, str]]:
    if first.profile is None or second.profile is None:
        return []
    a, b = first.profile, second.profile
    milliseconds = (f"{1e3 * a.latency.median:.1f}", f"{1e3 * b.latency.median:.1f}")
    return [
        ("parameters", f"{a.num_parameters:,}", f"{b.num_parameters:,}", f"{b.num_parameters - a.num_parameters:+,}"),
        ("GMAC", f"{a.gmacs:.2f}", f"{b.gmacs:.2f}", f"x {b.gmacs / a.gmacs:.2f}"),
        ("ms a picture", *milliseconds, f"x {b.latency.median / a.latency.median:.2f}"),
        ("minutes", f"{first.minutes or 0:.1f}", f"{second.minutes or 0:.1f}", ""),
    ]


def comparison_to_dict(comparison: Comparison) -> dict[str, Any]:
    """The differences and their intervals as plain numbers, and how many objects had which fate."""
    fates = {
        outcome: len(comparison.object_changes.with_outcome(outcome))
        for outcome in ("gained", "lost", "moved", "kept", "missed")
    }
    intervals = {
        kind: {key: {"value": one.difference, "low": one.low, "high": one.high} for key, one in values.items()}
        for kind, values in comparison.intervals.items()
    }
    return json.loads(json.dumps({"differences": intervals, "objects": fates}))
