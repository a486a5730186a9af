"""COCO's average precision and recall for boxes and masks, with one more bin of size for tiny objects.

The protocol is COCO's (Lin et al., "Microsoft COCO", 2014, and its published evaluation code): IoU 0.50 … 0.95 in steps
of 0.05, 101 recalls, at most 100 detections a picture, crowds neither found nor missed. hotcoco computes it; no other
file of this library knows it.

Ground truth is a dict in COCO's form (``images``, ``annotations``, ``categories``), detections a list of COCO results
(``image_id``, ``category_id``, ``bbox`` xywh in px, ``score``, and for masks ``segmentation`` as RLE). Masks are ranked by
``mask_score`` where a detection has one, as CenterMask's do (Lee and Park, CVPR 2020, Sec. 3.3); boxes always by ``score``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

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
"""Areas in px² (of the annotation's ``area``: its mask's where there is one). *tiny lies inside small*, which keeps
COCO's [0, 32²].
"""

COCO_IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
COCO_IOU_TYPES: dict[IoUType, str] = {"boxes": "bbox", "masks": "segm"}


def coco_metrics(
    ground_truth: GroundTruth, detections: Sequence[Detection], iou_type: IoUType = "boxes", max_detections: int = 100
) -> Metrics:
    """``ap ap50 ap75 ap_tiny ap_small ap_medium ap_large``, the same ``ar…`` without thresholds, and ``per_class``
    (class name → AP).

    Each is in 0…1, or None where the ground truth has no object of that size or class (COCO's code says −1 there).
    ``ar`` is COCO's AR@``max_detections``; ``max_detections`` is how many detections of a picture and class count, best first.

    Raises:
        ValueError: if a detection names a picture or a class that the ground truth lacks, or ``iou_type`` cannot be
            measured on it.
    """
    found = _run_coco_eval(ground_truth, detections, iou_type, max_detections, AREA_RANGES)
    found.accumulate()
    precision, recall = np.asarray(found.eval["precision"])[..., -1], np.asarray(found.eval["recall"])[..., -1]
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
    """``ap50 ap50_tiny ap50_small ap50_medium ap50_large`` and the same ``ar50…``: precision and recall at IoU 0.5 alone, by size.

    Numbers as in `average_precision`, which raises as this does. It is what papers on traffic signs report (EFPN, Table VIII).
    """
    found = _run_coco_eval(ground_truth, detections, iou_type, max_detections, AREA_RANGES)
    found.accumulate()
    precision, recall = np.asarray(found.eval["precision"])[0, ..., -1], np.asarray(found.eval["recall"])[0, ..., -1]
    endings = ["" if size == "all" else f"_{size}" for size in AREA_RANGES]
    numbers = {f"ap50{ending}": _mean(precision[..., i]) for i, ending in enumerate(endings)}
    return numbers | {f"ar50{ending}": _mean(recall[..., i]) for i, ending in enumerate(endings)}


@dataclass(frozen=True)
class ClassMatches:
    """The detections of one class, pictures in the order of their ids and best first in each, as COCO's greedy matching
    left them.
    """

    category_id: int
    image_index: NDArray[np.int64]
    """[n] position of the picture in the sorted ids."""
    detection_index: NDArray[np.int64]
    """[n] position in the list of detections."""
    score: NDArray[np.float64]
    """[n]"""
    true_positive: NDArray[np.bool_]
    """[10, n] true where the detection found an object that counts, for each of the IoUs."""
    false_positive: NDArray[np.bool_]
    """[10, n] true where it is a false alarm. What is neither (a crowd, another size) does not count."""
    annotation_id: NDArray[np.int64]
    """[n] id of the annotation found at IoU 0.5, −1 where none was or it does not count."""
    num_objects: NDArray[np.int64]
    """[pictures] objects that count in each picture."""


def match_detections(
    ground_truth: GroundTruth,
    detections: Sequence[Detection],
    iou_type: IoUType = "boxes",
    area_range: str = "all",
    max_detections: int = 100,
) -> list[ClassMatches]:
    """Who found what, for each class in the order of their ids, at the ten IoUs; ``area_range`` is a name of `SIZES`.

    Raises:
        ValueError: as `average_precision`.
    """
    entries = _run_coco_eval(
        ground_truth, detections, iou_type, max_detections, {area_range: AREA_RANGES[area_range]}
    ).eval_imgs
    position = {image_id: i for i, image_id in enumerate(sorted(image["id"] for image in ground_truth["images"]))}
    by_class: dict[int, list[dict[str, Any]]] = {category: [] for category in _category_names(ground_truth)}
    for entry in filter(None, entries):
        by_class[entry["category_id"]].append(entry)
    return [_class_matches(category, of_class, position) for category, of_class in by_class.items()]


def _class_matches(category_id: int, entries: list[dict[str, Any]], position: dict[int, int]) -> ClassMatches:
    entries = sorted(entries, key=lambda entry: position[entry["image_id"]])
    objects = np.zeros(len(position), np.int64)
    for entry in entries:
        objects[position[entry["image_id"]]] = len(entry["gtIgnore"]) - sum(entry["gtIgnore"])
    entries = [entry for entry in entries if entry["dtIds"]]
    if not entries:
        none, never = np.zeros(0, np.int64), np.zeros((len(COCO_IOU_THRESHOLDS), 0), bool)
        return ClassMatches(category_id, none, none, np.zeros(0), never, never, none, objects)
    matched = np.concatenate([np.asarray(entry["dtMatched"], bool) for entry in entries], axis=1)
    counts = ~np.concatenate([np.asarray(entry["dtIgnore"], bool) for entry in entries], axis=1)
    annotation = np.concatenate([np.asarray(entry["dtMatches"][0], np.int64) for entry in entries])
    return ClassMatches(
        category_id,
        np.concatenate([np.full(len(entry["dtIds"]), position[entry["image_id"]], np.int64) for entry in entries]),
        np.concatenate([np.asarray(entry["dtIds"], np.int64) - 1 for entry in entries]),
        np.concatenate([np.asarray(entry["dtScores"], np.float64) for entry in entries]),
        matched & counts,
        ~matched & counts,
        np.where((matched & counts)[0], annotation, -1),
        objects,
    )


def encode_coco_rle(mask: NDArray[np.uint8]) -> dict[str, Any]:
    """``mask [H, W]`` of 0 and 1 as COCO's compressed run lengths: ``{"size": [H, W], "counts": str}``, ready for
    JSON.
    """
    import hotcoco

    encoded = hotcoco.mask.encode(np.asfortranarray(mask))
    return {"size": list(encoded["size"]), "counts": encoded["counts"].decode("ascii")}


def decode_coco_segmentation(segmentation: Any, image_size: tuple[int, int]) -> NDArray[np.uint8]:
    """COCO's segmentation (polygons or run lengths) as a mask ``[H, W]`` of 0 and 1, for a picture of ``image_size`` (H,
    W).
    """
    import hotcoco

    encoded = hotcoco.mask.fr_py_objects(segmentation, *image_size)
    return hotcoco.mask.decode(hotcoco.mask.merge(encoded) if isinstance(encoded, list) else encoded)


def detection_iou(
    ground_truth: GroundTruth, annotation: Mapping[str, Any], detection: Detection, iou_type: IoUType = "boxes"
) -> float:
    """IoU in 0…1 of an annotation of ``ground_truth`` with a detection on the same picture, between their boxes or their
    masks.
    """
    import hotcoco

    if iou_type == "boxes":
        return float(hotcoco.mask.bbox_iou([detection["bbox"]], [annotation["bbox"]], [False])[0][0])
    height, width = next((i["height"], i["width"]) for i in ground_truth["images"] if i["id"] == annotation["image_id"])
    mask = encode_coco_rle(decode_coco_segmentation(annotation["segmentation"], (height, width)))
    return float(hotcoco.mask.iou([detection["segmentation"]], [mask], [False])[0][0])


def has_masks(ground_truth: GroundTruth) -> bool:
    """Whether any annotation has a segmentation (many data sets of boxes carry an empty list there)."""
    return any(annotation.get("segmentation") for annotation in ground_truth["annotations"])


def _run_coco_eval(
    ground_truth: GroundTruth,
    detections: Sequence[Detection],
    iou_type: IoUType,
    max_detections: int,
    area_ranges: Mapping[str, tuple[float, float]],
) -> Any:
    import hotcoco

    _validate_detections(ground_truth, detections, iou_type)
    results = [_select_fields(detection, iou_type) for detection in detections]
    objects = hotcoco.COCO(dict(ground_truth))
    evaluator = hotcoco.COCOeval(objects, objects.load_res(results), COCO_IOU_TYPES[iou_type])
    evaluator.params.area_rng = [list(area_ranges[name]) for name in area_ranges]
    evaluator.params.area_rng_lbl = list(area_ranges)
    evaluator.params.max_dets = [max_detections]
    evaluator.evaluate()
    return evaluator


def _select_fields(detection: Detection, iou_type: IoUType) -> Detection:
    """A detection without what belongs to the other kind: with a box beside it, COCO's code would take a mask's area from the box."""
    unused = ("mask_score", "segmentation" if iou_type == "boxes" else "bbox")
    score = detection.get("mask_score", detection["score"]) if iou_type == "masks" else detection["score"]
    return {key: value for key, value in detection.items() if key not in unused} | {"score": score}


def _validate_detections(ground_truth: GroundTruth, detections: Sequence[Detection], iou_type: IoUType) -> None:
    if iou_type not in COCO_IOU_TYPES:
        raise ValueError(f"Unknown kind '{iou_type}'; choose one of {', '.join(COCO_IOU_TYPES)}.")
    if iou_type == "masks" and ground_truth["annotations"] and not has_masks(ground_truth):
        raise ValueError(
            "The ground truth has no masks (every 'segmentation' is empty or missing); measure kind='boxes'."
        )
    pictures, classes = {image["id"] for image in ground_truth["images"]}, _category_names(ground_truth)
    for i, detection in enumerate(detections):
        if detection["image_id"] not in pictures:
            raise ValueError(
                f"Detection {i} is on picture {detection['image_id']}, which is not among the {len(pictures)} pictures "
                "of the ground truth. Are they of the same data set and split?"
            )
        if detection["category_id"] not in classes:
            raise ValueError(
                f"Detection {i} is of class {detection['category_id']}, which {_unknown_class_message(classes)}"
            )
        if iou_type == "masks" and "segmentation" not in detection:
            raise ValueError(f"Detection {i} has no 'segmentation'; masks need it (or measure kind='boxes').")


def _unknown_class_message(classes: dict[int, str]) -> str:
    first = ", ".join(f"{k} {name}" for k, name in list(classes.items())[:10])
    return (
        f"the ground truth lacks (it has {first}{', …' if len(classes) > 10 else ''}). Detector and data must number "
        "classes alike: 1…K in the order of dataset.classes."
    )


def _category_names(ground_truth: GroundTruth) -> dict[int, str]:
    return {
        category["id"]: category["name"]
        for category in sorted(ground_truth["categories"], key=lambda category: category["id"])
    }


def _mean(values: NDArray[np.float64]) -> float | None:
    known = values[values > -1]
    return float(known.mean()) if known.size else None
