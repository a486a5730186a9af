"""Evaluation of a detector file on a dataset: COCO metrics, TT100K's own protocol, test-time augmentation."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

from featlift.checkpoints.json_io import to_jsonable, write_json
from featlift.data.config import build_dataset, load_data_config
from featlift.data.dataset import ImageDataset
from featlift.data.fingerprint import dataset_fingerprint
from featlift.data.tt100k import TT100KDataset
from featlift.detectors.detection_limit import limit_detections
from featlift.detectors.double_size_level import DoubleSizeLevelDetector
from featlift.detectors.fixed_size import FixedSizeDetector, parse_image_size
from featlift.detectors.multi_scale import MultiScaleTTA
from featlift.detectors.single_level import detect_on_level
from featlift.detectors.sliced import SlicedDetector
from featlift.evaluation.class_mapping import match_classes
from featlift.evaluation.coco_files import write_coco_file, write_coco_results
from featlift.evaluation.coco_metrics import Detection
from featlift.evaluation.detection import detection_limit, evaluate_detector
from featlift.evaluation.voc import area_average_precision, eleven_point_average_precision, voc_average_precision
from featlift.integrations.named_detector import load_named_detector
from featlift.runs.evaluate import format_metrics
from featlift.runs.options import InferenceOptions
from featlift.runs.tt100k import evaluate_tt100k, format_tt100k, plot_accuracy_recall
from featlift.runs.upgrade_training import warn_about_random_weights
from featlift.training import distributed


def evaluate_detector_file(model: str, data: str, split: str, out: str, inference: InferenceOptions) -> dict[str, Any]:
    """Evaluate the detector of a run folder or file, write metrics and detections as JSON, and return the metrics.

    Of several processes, each detects in its share of the images, and rank 0 writes.

    Args:
        model: Run folder or detector file, or a name as `load_named_detector` takes it.
        data: Dataset (see `featlift.data.open_dataset`) or "scenes"; empty for the run's own data.
        split: "val" or "train".
        out: JSON file; empty for ``evaluation-….json`` next to the detector.
        inference: Batch size, device and test-time augmentation.

    Raises:
        ValueError: If the classes of the dataset differ from the detector's, or ``split`` has no public annotations.
    """
    if split.startswith("test-dev"):
        raise ValueError("The annotations of test-dev are not public: --submit writes the file for COCO's server.")
    named = load_named_detector(model, inference.weights, inference.delta)
    warn_about_random_weights(model, inference.weights)
    dataset = build_dataset(load_data_config(model, data), split)
    label_ids = match_classes(named.classes, dataset, inference.class_map)
    predictor = build_predictor(named.detector, inference)
    evaluation = evaluate_detector(predictor, dataset, inference.batch_size, inference.device, label_ids=label_ids)
    if distributed.get_rank() != 0:
        return evaluation.metrics
    print(format_metrics(Path(model).name, evaluation))
    path = Path(out) if out else _default_path(model, data, split, inference)
    results = {
        "data": dataset_fingerprint(dataset),
        "inference": to_jsonable(inference),
        "metrics": evaluation.metrics,
        "detections": evaluation.detections,
    }
    if isinstance(dataset, TT100KDataset):
        results["tt100k"] = evaluate_tt100k(predictor, dataset, evaluation, inference.batch_size, inference.device)
        print(format_tt100k(results["tt100k"]))
        print(plot_accuracy_recall(results["tt100k"], path.with_name(f"{path.stem}-accuracy-recall.png")))
    if getattr(dataset, "layout", "") == "voc":
        results["voc"] = evaluate_voc(dataset, evaluation.detections)
        print(" · ".join(f"{name}: mAP {100 * (values['mAP'] or 0):.1f}" for name, values in results["voc"].items()))
    write_json(path, results)
    write_detections(path, dataset, evaluation.detections)
    print(path)
    return evaluation.metrics


def build_predictor(detector: nn.Module, inference: InferenceOptions) -> nn.Module:
    """Apply ``inference`` to ``detector``: number of detections, level, slices, test-time augmentation and image size."""
    inference.check_combination()
    if inference.max_detections is not None:
        limit_detections(detector, inference.max_detections)
    if inference.level:
        detect_on_level(detector, inference.level)
    limit = detection_limit(detector)
    if inference.double_size_level:
        detector = DoubleSizeLevelDetector(detector, inference.double_size_level)
    if inference.slice_size:
        options = (inference.slice_size, inference.slice_overlap, inference.slice_scale)
        detector = SlicedDetector(detector, *options, max_detections=limit)
    if inference.has_augmentation:
        if not hasattr(detector, "transform"):
            raise ValueError(
                f"--scales and --flip need torchvision's transform, which resizes the images; {type(detector).__name__} has none."
            )
        detector = MultiScaleTTA(
            detector, inference.scales, inference.flip, inference.merge_method, max_detections=limit
        )
    return FixedSizeDetector(detector, parse_image_size(inference.image_size)) if inference.image_size else detector


def evaluate_voc(dataset: ImageDataset, detections: Sequence[Detection]) -> dict[str, dict[str, float | None]]:
    """PASCAL VOC's own AP of ``detections`` by class, in 0…1: of VOC2007 (eleven points) and of VOC2010 and later (area)."""
    protocols = {"VOC2007": eleven_point_average_precision, "VOC2012": area_average_precision}
    truth = dataset.coco()
    return {
        name: voc_average_precision(truth, detections, interpolate=function) for name, function in protocols.items()
    }


def write_detections(path: Path, dataset: ImageDataset, detections: Sequence[Detection]) -> None:
    """Write ``detections`` next to ``path``: ``…-results.json``, the list of COCO results, and ``…-coco.json``, a full COCO file."""
    truth = dataset.coco()
    write_coco_results(path.with_name(f"{path.stem}-results.json"), detections)
    write_coco_file(path.with_name(f"{path.stem}-coco.json"), truth["images"], truth["categories"], detections)


def output_folder(model: str) -> Path:
    """Return the run folder, the folder of the detector file, or for a detector of another library the current folder."""
    path = Path(model)
    return path if path.is_dir() else path.parent if path.exists() else Path()


def _default_path(model: str, data: str, split: str, inference: InferenceOptions) -> Path:
    prefix = "" if Path(model).exists() else re.sub(r"\W+", "-", model) + "-"
    suffix = f"-{inference.variant}" if inference.variant else ""
    return output_folder(model) / f"{prefix}evaluation-{Path(data or 'own').name}-{split}{suffix}.json"
