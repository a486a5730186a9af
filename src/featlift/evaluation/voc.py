"""PASCAL VOC 2007 average precision (FDSR, Table 3): IoU 0.5, eleven-point interpolation.

Implemented here because no library provides it: unlike in COCO's matching, a detection is compared only with the object of largest IoU,
even if that object is already matched.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featlift.evaluation.iou import box_iou_xywh

VOCDetection = Mapping[str, Any]
RECALL_POINTS = np.linspace(0, 1, 11)


def voc_average_precision(
    ground_truth: Mapping[str, Any], detections: Sequence[VOCDetection], iou_threshold: float = 0.5
) -> dict[str, float | None]:
    """Compute ``"mAP"`` and the AP of each class by name, in 0…1; None for a class without objects.

    Boxes are continuous coordinates, not pixel indices, so VOC's "+ 1" is already included (see `featlift.data.formats.voc`).

    Args:
        ground_truth: Ground truth in COCO format. Objects with ``difficult`` (or else ``iscrowd``) 1 are ignored.
        detections: COCO results: ``image_id``, ``category_id``, ``bbox`` xywh in px, ``score``.
        iou_threshold: Minimum IoU of a true positive.
    """
    values = {
        c["name"]: _class_average_precision(ground_truth, detections, c["id"], iou_threshold)
        for c in ground_truth["categories"]
    }
    present = [value for value in values.values() if value is not None]
    return {"mAP": float(np.mean(present)) if present else None, **values}


def eleven_point_average_precision(recall: NDArray[np.float64], precision: NDArray[np.float64]) -> float:
    """Average, over recalls 0, 0.1 … 1, the maximum precision at that recall or above (0 if the recall is not reached)."""
    return float(np.mean([precision[recall >= point - 1e-12].max(initial=0.0) for point in RECALL_POINTS]))


def _class_average_precision(
    ground_truth: Mapping[str, Any], detections: Sequence[VOCDetection], category_id: int, iou_threshold: float
) -> float | None:
    objects: dict[int, list[Mapping[str, Any]]] = {}
    for annotation in ground_truth["annotations"]:
        if annotation["category_id"] == category_id:
            objects.setdefault(annotation["image_id"], []).append(annotation)
    num_objects = sum(not _is_difficult(annotation) for group in objects.values() for annotation in group)
    if not num_objects:
        return None
    ranked = sorted((d for d in detections if d["category_id"] == category_id), key=lambda d: -d["score"])
    tp, fp = (np.cumsum(values) for values in _match_detections(ranked, objects, iou_threshold))
    return eleven_point_average_precision(tp / num_objects, tp / np.maximum(tp + fp, 1))


def _match_detections(
    detections: Sequence[VOCDetection], objects: Mapping[int, Sequence[Mapping[str, Any]]], iou_threshold: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Flag true and false positives among the ranked detections; a detection on a difficult object is neither."""
    tp, fp = np.zeros(len(detections)), np.zeros(len(detections))
    matched: set[int] = set()
    for rank, detection in enumerate(detections):
        candidates = objects.get(detection["image_id"], [])
        ious = [box_iou_xywh(detection["bbox"], candidate["bbox"]) for candidate in candidates]
        best = int(np.argmax(ious)) if ious else -1
        if best < 0 or ious[best] < iou_threshold:
            fp[rank] = 1
        elif not _is_difficult(candidates[best]):
            tp[rank] = id(candidates[best]) not in matched
            fp[rank] = not tp[rank]
            matched.add(id(candidates[best]))
    return tp, fp


def _is_difficult(annotation: Mapping[str, Any]) -> bool:
    return bool(annotation.get("difficult", annotation.get("iscrowd", 0)))
