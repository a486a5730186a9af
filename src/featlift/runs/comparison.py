"""Comparison of two runs on the same validation images."""

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from featlift.data.config import build_dataset, load_data_config
from featlift.data.dataset import ImageDataset
from featlift.data.fingerprint import dataset_fingerprint
from featlift.detectors import Detector
from featlift.detectors.checkpoint import load_detector
from featlift.detectors.grad_cam import grad_cam
from featlift.evaluation.coco_metrics import COCO_IOU_TYPES, IoUType
from featlift.evaluation.comparison import Comparison, compare_detections
from featlift.evaluation.object_changes import OUTCOMES
from featlift.features import Features
from featlift.report.records import RunRecord
from featlift.runs.results import read_result


def load_common_dataset(folders: tuple[Path, Path]) -> ImageDataset:
    """Load the validation dataset of both runs.

    Raises:
        ValueError: If the runs were evaluated on different images.
    """
    data = [read_result(folder)["data"] for folder in folders]
    dataset = build_dataset(load_data_config(folders[0]), "val")
    current = dataset_fingerprint(dataset)
    if len({*data, current}) > 1:
        raise ValueError(
            f"{folders[0]} was evaluated on data {data[0]}, {folders[1]} on {data[1]}; the dataset is now {current}. "
            "Only runs on the same images can be compared: train both with the same --data."
        )
    return dataset


def disambiguate_names(runs: list[RunRecord], folders: tuple[Path, Path]) -> None:
    """Rename runs of equal name to their folders."""
    if runs[0].name == runs[1].name:
        for run, folder in zip(runs, folders, strict=True):
            run.name = folder.name if folders[0].name != folders[1].name else str(folder)


def compare_runs(runs: list[RunRecord], dataset: ImageDataset, n_resamples: int) -> Comparison:
    """Compare two runs: AP differences with intervals, and the outcome of every object."""
    iou_types: list[IoUType] = [t for t in COCO_IOU_TYPES if all(t in run.metrics for run in runs)]
    names = (runs[0].name, runs[1].name)
    return compare_detections(dataset.coco(), runs[0].detections, runs[1].detections, names, iou_types, n_resamples)


def extract_feature_maps(
    runs: list[RunRecord], folders: tuple[Path, Path], dataset: ImageDataset
) -> dict[str, Features]:
    """Feature pyramids of both detectors on the first validation image, and the image itself (the papers' Figs. 2 and 7).

    Each level is followed by its Grad-CAM, as "p2 Grad-CAM".
    """
    image = dataset[0][0]
    return {
        run.name: _extract_pyramid(load_detector(folder)[0].eval(), image)
        for run, folder in zip(runs, folders, strict=True)
    }


def _extract_pyramid(detector: Detector, image: Tensor) -> Features:
    batch, _ = detector.transform([image])
    with torch.no_grad():
        features: Features = detector.backbone(batch.tensors)
    cams = grad_cam(detector, image)
    pairs = {
        name: x for level in features for name, x in ((level, features[level]), (f"{level} Grad-CAM", cams[level]))
    }
    return {"image": image[None], **pairs}


def format_comparison(runs: list[RunRecord], comparison: Comparison) -> str:
    """Format AP, AP tiny and small, parameters, latency and training minutes of both runs as a text table."""
    first, second = runs
    rows = [("", first.name, second.name, "difference [95 % CI]")]
    for iou_type, intervals in comparison.intervals.items():
        for key in ("ap", "ap_tiny", "ap_small"):
            if key in intervals:
                before, after = (f"{100 * run.metrics[iou_type][key]:.1f}" for run in runs)
                rows.append((f"{key.replace('_', ' ')} {iou_type}", before, after, intervals[key].percent_text))
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
        ("ms per image", *milliseconds, f"x {b.latency.median / a.latency.median:.2f}"),
        ("minutes", f"{first.minutes or 0:.1f}", f"{second.minutes or 0:.1f}", ""),
    ]


def comparison_to_dict(comparison: Comparison) -> dict[str, Any]:
    """AP differences with intervals, and the number of objects by outcome, as JSON-serializable numbers."""
    counts = {outcome: len(comparison.object_changes.with_outcome(outcome)) for outcome in OUTCOMES}
    differences = {
        iou_type: {key: {"value": x.difference, "low": x.low, "high": x.high} for key, x in intervals.items()}
        for iou_type, intervals in comparison.intervals.items()
    }
    return json.loads(json.dumps({"differences": differences, "objects": counts}))
