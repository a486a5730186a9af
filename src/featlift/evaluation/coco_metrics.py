"""COCO average precision and recall for boxes and masks, with an additional size range for tiny objects.

The protocol is that of COCO (Lin et al., "Microsoft COCO", 2014, and its published evaluation code): IoU 0.50 … 0.95 in
steps of 0.05, 101 recall thresholds, at most 100 detections per image, crowd annotations ignored. The metrics are computed
by hotcoco.

Ground truth is a dict in COCO format (``images``, ``annotations``, ``categories``); detections are a list of COCO results
(``image_id``, ``category_id``, ``bbox`` xywh in px, ``score``, and for masks ``segmentation`` as RLE). Masks are ranked by
``mask_score`` if a detection has it, as in CenterMask (Lee and Park, CVPR 2020, Sec. 3.3); boxes always by ``score``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from featlift.registry import check_choice

GroundTruth = Mapping[str, Any]
Detection = dict[str, Any]
IoUType = Literal["boxes", "masks"]
Metrics = dict[str, Any]

AREA_RANGES: dict[str, tuple[float, float]] = {
    "all": (0.0, 1e10),
    "tiny": (0.0, 16.0**2),
    "small": (0.0, 32.0**2),
    "medium": (32.0**2, 96.0**2),
    "large": (96.0**2, 1e10),
}
"""Ranges of the annotation's ``area`` in px² (the mask area if it has a mask). *tiny* is a subset of *small*, which keeps
COCO's [0, 32²].
"""

COCO_IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
COCO_IOU_TYPES: dict[IoUType, str] = {"boxes": "bbox", "masks": "segm"}


def coco_metrics(
    ground_truth: GroundTruth, detections: Sequence[Detection], iou_type: IoUType = "boxes", max_detections: int = 100
) -> Metrics:
    """Compute the COCO metrics: ``ap ap50 ap75 ap_tiny ap_small ap_medium ap_large``, ``ar ar_tiny … ar_large``, and
    ``per_class`` (class name → AP).

    Each value is in 0…1, or None if the ground truth has no object of that size or class (COCO's code gives −1).
    ``ar`` is COCO's AR@``max_detections``; only the ``max_detections`` highest-scoring detections per image and class count.

    Raises:
        ValueError: If a detection refers to an image or class that is not in the ground truth, or the ground truth or the
            detections lack what ``iou_type`` needs.
    """
    evaluator = run_coco_eval(ground_truth, detections, iou_type, max_detections, AREA_RANGES)
    evaluator.accumulate()
    precision, recall = np.asarray(evaluator.eval["precision"])[..., -1], np.asarray(evaluator.eval["recall"])[..., -1]
    metrics: Metrics = {
        "ap": _mean(precision[..., 0]),
        "ap50": _mean(precision[0, ..., 0]),
        "ap75": _mean(precision[5, ..., 0]),
    }
    sizes = list(enumerate(AREA_RANGES))[1:]
    metrics |= {f"ap_{size}": _mean(precision[..., i]) for i, size in sizes}
    metrics |= {"ar": _mean(recall[..., 0])} | {f"ar_{size}": _mean(recall[..., i]) for i, size in sizes}
    metrics["per_class"] = {
        name: _mean(precision[:, :, k, 0]) for k, name in enumerate(_category_names(ground_truth).values())
    }
    return metrics


def coco_metrics_at_iou50(
    ground_truth: GroundTruth, detections: Sequence[Detection], iou_type: IoUType = "boxes", max_detections: int = 100
) -> Metrics:
    """Compute AP and AR at IoU 0.5 alone, by size: ``ap50 ap50_tiny ap50_small ap50_medium ap50_large``, and ``ar50…`` alike.

    Values and errors are those of `coco_metrics`. Papers on traffic signs report these (EFPN, Table VIII).
    """
    evaluator = run_coco_eval(ground_truth, detections, iou_type, max_detections, AREA_RANGES)
    evaluator.accumulate()
    precision = np.asarray(evaluator.eval["precision"])[0, ..., -1]
    recall = np.asarray(evaluator.eval["recall"])[0, ..., -1]
    suffixes = ["" if size == "all" else f"_{size}" for size in AREA_RANGES]
    metrics = {f"ap50{suffix}": _mean(precision[..., i]) for i, suffix in enumerate(suffixes)}
    return metrics | {f"ar50{suffix}": _mean(recall[..., i]) for i, suffix in enumerate(suffixes)}


@dataclass(frozen=True)
class ClassMatches:
    """Result of COCO's greedy matching for the detections of one class, sorted by image id, then by descending score."""

    category_id: int
    image_index: NDArray[np.int64]
    """[n] index of the image in the sorted image ids."""
    detection_index: NDArray[np.int64]
    """[n] index in the list of detections."""
    score: NDArray[np.float64]
    """[n] scores."""
    true_positive: NDArray[np.bool_]
    """[10, n] whether the detection is matched to an object, at each IoU threshold."""
    false_positive: NDArray[np.bool_]
    """[10, n] whether it is a false positive. Ignored detections (on a crowd, of another size) are neither."""
    annotation_id: NDArray[np.int64]
    """[n] id of the annotation matched at IoU 0.5; −1 if there is none or the detection is ignored."""
    num_objects: NDArray[np.int64]
    """[images] number of objects in each image, ignored ones excluded."""


def match_detections(
    ground_truth: GroundTruth,
    detections: Sequence[Detection],
    iou_type: IoUType = "boxes",
    area_range: str = "all",
    max_detections: int = 100,
) -> list[ClassMatches]:
    """Match detections with objects at the ten IoU thresholds; one `ClassMatches` per class, sorted by class id.

    ``area_range`` is a key of `AREA_RANGES`.

    Raises:
        ValueError: As `coco_metrics`.
    """
    entries = run_coco_eval(
        ground_truth, detections, iou_type, max_detections, {area_range: AREA_RANGES[area_range]}
    ).eval_imgs
    position = {image_id: i for i, image_id in enumerate(sorted(image["id"] for image in ground_truth["images"]))}
    by_class: dict[int, list[dict[str, Any]]] = {category_id: [] for category_id in _category_names(ground_truth)}
    for entry in filter(None, entries):
        by_class[entry["category_id"]].append(entry)
    return [_class_matches(category_id, entries, position) for category_id, entries in by_class.items()]


def _class_matches(category_id: int, entries: list[dict[str, Any]], position: dict[int, int]) -> ClassMatches:
    entries = sorted(entries, key=lambda entry: position[entry["image_id"]])
    num_objects = np.zeros(len(position), np.int64)
    for entry in entries:
        num_objects[position[entry["image_id"]]] = len(entry["gtIgnore"]) - sum(entry["gtIgnore"])
    entries = [entry for entry in entries if entry["dtIds"]]
    if not entries:
        no_ids, no_flags = np.zeros(0, np.int64), np.zeros((len(COCO_IOU_THRESHOLDS), 0), bool)
        return ClassMatches(category_id, no_ids, no_ids, np.zeros(0), no_flags, no_flags, no_ids, num_objects)
    matched = np.concatenate([np.asarray(entry["dtMatched"], bool) for entry in entries], axis=1)
    valid = ~np.concatenate([np.asarray(entry["dtIgnore"], bool) for entry in entries], axis=1)
    annotation_id = np.concatenate([np.asarray(entry["dtMatches"][0], np.int64) for entry in entries])
    return ClassMatches(
        category_id,
        np.concatenate([np.full(len(entry["dtIds"]), position[entry["image_id"]], np.int64) for entry in entries]),
        np.concatenate([np.asarray(entry["dtIds"], np.int64) - 1 for entry in entries]),
        np.concatenate([np.asarray(entry["dtScores"], np.float64) for entry in entries]),
        matched & valid,
        ~matched & valid,
        np.where((matched & valid)[0], annotation_id, -1),
        num_objects,
    )


def has_masks(ground_truth: GroundTruth) -> bool:
    """Return whether any annotation has a segmentation (in many box datasets the field is an empty list)."""
    return any(annotation.get("segmentation") for annotation in ground_truth["annotations"])


def run_coco_eval(
    ground_truth: GroundTruth,
    detections: Sequence[Detection],
    iou_type: IoUType,
    max_detections: int,
    area_ranges: Mapping[str, tuple[float, float]],
) -> Any:
    """Match detections with objects of each of ``area_ranges`` (name → px²) and return hotcoco's evaluator.

    Raises:
        ValueError: As `coco_metrics`.
    """
    import hotcoco

    _validate_detections(ground_truth, detections, iou_type)
    results = [_select_fields(detection, iou_type) for detection in detections]
    coco = hotcoco.COCO(_without_names(ground_truth))
    evaluator = hotcoco.COCOeval(coco, coco.load_res(results), COCO_IOU_TYPES[iou_type])
    evaluator.params.area_rng = [list(area_ranges[name]) for name in area_ranges]
    evaluator.params.area_rng_lbl = list(area_ranges)
    evaluator.params.max_dets = [max_detections]
    evaluator.evaluate()
    return evaluator


def _without_names(ground_truth: GroundTruth) -> dict[str, Any]:
    """``ground_truth`` without names of files and classes, which hotcoco reads as UTF-8 although file names need not be."""
    images = [{**image, "file_name": ""} for image in ground_truth["images"]]
    categories = [{**category, "name": str(category["id"])} for category in ground_truth["categories"]]
    return {"images": images, "categories": categories, "annotations": ground_truth["annotations"]}


def _select_fields(detection: Detection, iou_type: IoUType) -> Detection:
    """Drop the fields of the other IoU type: if a box is present, COCO's code computes a mask's area from the box."""
    unused = ("mask_score", "segmentation" if iou_type == "boxes" else "bbox")
    score = detection.get("mask_score", detection["score"]) if iou_type == "masks" else detection["score"]
    return {key: value for key, value in detection.items() if key not in unused} | {"score": score}


def _validate_detections(ground_truth: GroundTruth, detections: Sequence[Detection], iou_type: IoUType) -> None:
    check_choice(iou_type, COCO_IOU_TYPES, "iou_type")
    if iou_type == "masks" and ground_truth["annotations"] and not has_masks(ground_truth):
        raise ValueError(
            "The ground truth has no masks (every 'segmentation' is empty or missing); use iou_type='boxes'."
        )
    image_ids, classes = {image["id"] for image in ground_truth["images"]}, _category_names(ground_truth)
    for i, detection in enumerate(detections):
        if detection["image_id"] not in image_ids:
            raise ValueError(
                f"Detection {i} is on image {detection['image_id']}, which is not among the {len(image_ids)} images "
                "of the ground truth. Use detections of the same dataset and split."
            )
        if detection["category_id"] not in classes:
            raise ValueError(
                f"Detection {i} is of class {detection['category_id']}, which {_unknown_class_message(classes)}"
            )
        if iou_type == "masks" and "segmentation" not in detection:
            raise ValueError(f"Detection {i} has no 'segmentation', which masks require; or use iou_type='boxes'.")


def _unknown_class_message(classes: dict[int, str]) -> str:
    first = ", ".join(f"{k} {name}" for k, name in list(classes.items())[:10])
    return (
        f"is not in the ground truth (classes: {first}{', …' if len(classes) > 10 else ''}). Detector and dataset must "
        "use the same category ids: those of dataset.coco(), which label_ids of detect_dataset maps labels to."
    )


def _category_names(ground_truth: GroundTruth) -> dict[int, str]:
    return {
        category["id"]: category["name"]
        for category in sorted(ground_truth["categories"], key=lambda category: category["id"])
    }


def _mean(values: NDArray[np.float64]) -> float | None:
    valid = values[values > -1]
    return float(valid.mean()) if valid.size else None
