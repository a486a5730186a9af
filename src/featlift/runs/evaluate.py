"""Evaluation of a trained detector: metrics, profile, ``result.json`` and the HTML report of its run."""

from typing import Any

from torch import nn

from featlift import report
from featlift.checkpoints.json_io import write_json
from featlift.data.config import DataConfig, build_dataset
from featlift.data.dataset import ImageDataset
from featlift.data.fingerprint import dataset_fingerprint
from featlift.data.run_data import read_run_classes
from featlift.evaluation.class_mapping import match_classes
from featlift.evaluation.detection import EvaluationResult, evaluate_detector
from featlift.profiling import profile_detectors
from featlift.report.page import ReportDataset
from featlift.training import Run


def evaluate_and_report(detector: nn.Module, data: DataConfig, run: Run, name: str) -> dict[str, Any]:
    """Evaluate ``detector`` on the validation images of ``data`` with all processes; rank 0 writes results and report.

    Returns the content of ``result.json``; {} on other ranks.
    """
    dataset = build_dataset(data, "val")
    classes = read_run_classes(run)
    label_ids = match_classes(classes, dataset) if classes else None
    evaluation = evaluate_detector(detector, dataset, data.batch_size, run.device, label_ids=label_ids)
    if run.rank != 0:
        return {}
    profile = profile_detectors({name: detector}, dataset[0][0].to(run.device))[name]
    write_json(run.folder / "detections.json", evaluation.detections)
    content = {"name": name, "metrics": evaluation.metrics, "profile": profile}
    result = run.write_result(content, dataset_fingerprint(dataset))
    report.write_report(run.folder, [report.read_run(run.folder)], dataset=build_report_dataset(dataset))
    print(format_metrics(name, evaluation))
    print(run.folder / "report.html")
    return result


def build_report_dataset(dataset: ImageDataset) -> ReportDataset:
    """Ground truth and images of ``dataset`` for a report."""
    ground_truth = dataset.coco()
    index = {image["id"]: i for i, image in enumerate(ground_truth["images"])}
    return ReportDataset(ground_truth, lambda image_id: dataset[index[image_id]][0])


def format_metrics(name: str, evaluation: EvaluationResult) -> str:
    """Format AP and AP by size in per cent, one line per IoU type."""
    keys = ("ap", "ap50", "ap_tiny", "ap_small", "ap_medium", "ap_large", "ar")
    lines = [
        f"{name}, {iou_type}: "
        + "  ".join(f"{key} {100 * metrics[key]:.1f}" for key in keys if metrics.get(key) is not None)
        for iou_type, metrics in evaluation.metrics.items()
    ]
    if evaluation.num_limited_images:
        lines.append(
            f"{name}: {evaluation.num_limited_images} of {len(evaluation.seconds_per_image)} images have the maximum of "
            f"{evaluation.max_detections} detections, so objects may be missing: --max-detections (evaluate) or "
            "--model.detector-options.max_detections (train)."
        )
    return "\n".join(lines)
