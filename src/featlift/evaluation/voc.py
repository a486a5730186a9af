"""Average precision as PASCAL VOC 2007 had it (FDSR, Table 3): IoU ½, eleven points.

Written out because no library does it: COCO's matching is another. Here a detection is judged against the one object that it overlaps
most, taken or not.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

VOCDetection = Mapping[str, Any]
RECALL_POINTS = np.linspace(0, 1, 11)


def voc_average_precision(
    ground_truth: Mapping[str, Any], detections: Sequence[VOCDetection], iou_threshold: float = 0.5
) -> dict[str, float | None]:
    """``"mAP"`` and the AP of each class by name, in 0…1; None for a class without objects.

    Args:
        ground_truth: COCO's form. Objects with ``difficult`` (or else ``iscrowd``) 1 count neither for nor against.
        detections: COCO results: ``image_id``, ``category_id``, ``bbox`` xywh in px, ``score``.
        iou_threshold: the IoU from which on a detection is right.

    Boxes are edges, not pixel numbers, so VOC's "+ 1" is in them already (see `featlift.data.voc`).
    """
    values = {
        c["name"]: _class_average_precision(ground_truth, detections, c["id"], iou_threshold)
        for c in ground_truth["categories"]
    }
    present = [value for value in values.values() if value is not None]
    return {"mAP": float(np.mean(present)) if present else None, **values}


def eleven_point_average_precision(recall: NDArray[np.float64], precision: NDArray[np.float64]) -> float:
    """The mean, over recalls 0, 0.1 … 1, of the best precision at that recall or beyond (0 where none is reached)."""
    return float(np.mean([precision[recall >= point - 1e-12].max(initial=0.0) for point in RECALL_POINTS]))


def _class_average_precision(
    ground_truth: Mapping[str, Any], detections: Sequence[VOCDetection], category_id: int, iou_threshold: float
) -> float | None:
    objects: dict[int, list[Mapping[str, Any]]] = {}
    for thing in ground_truth["annotations"]:
        if thing["category_id"] == category_id:
            objects.setdefault(thing["image_id"], []).append(thing)
    count = sum(not _is_difficult(thing) for things in objects.values() for thing in things)
    if not count:
        return None
    ranked = sorted((d for d in detections if d["category_id"] == category_id), key=lambda d: -d["score"])
    right, wrong = (np.cumsum(values) for values in _match_detections(ranked, objects, iou_threshold))
    return eleven_point_average_precision(right / count, right / np.maximum(right + wrong, 1))


def _match_detections(
    detections: Sequence[VOCDetection], objects: Mapping[int, Sequence[Mapping[str, Any]]], iou_threshold: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """For each detection, best first: is it right, is it wrong? One on a difficult object is neither."""
    right, wrong = np.zeros(len(detections)), np.zeros(len(detections))
    taken: set[int] = set()
    for rank, detection in enumerate(detections):
        things = objects.get(detection["image_id"], [])
        overlaps = [_box_iou(detection["bbox"], thing["bbox"]) for thing in things]
        best = int(np.argmax(overlaps)) if overlaps else -1
        if best < 0 or overlaps[best] < iou_threshold:
            wrong[rank] = 1
        elif not _is_difficult(things[best]):
            right[rank] = id(things[best]) not in taken
            wrong[rank] = not right[rank]
            taken.add(id(things[best]))
    return right, wrong


def _is_difficult(annotation: Mapping[str, Any]) -> bool:
    return bool(annotation.get("difficult", annotation.get("iscrowd", 0)))


def _box_iou(a: Sequence[float], b: Sequence[float]) -> float:
    """IoU of two boxes xywh."""
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    shared = max(width, 0.0) * max(height, 0.0)
    return shared / (a[2] * a[3] + b[2] * b[3] - shared) if shared else 0.0
