"""Intersection over union of boxes and masks in COCO format."""

from collections.abc import Mapping, Sequence
from typing import Any

from featlift.data.masks import segmentation_to_rle


def box_iou_xywh(a: Sequence[float], b: Sequence[float]) -> float:
    """Return the IoU, in 0…1, of two boxes (left, top, width, height); for tensors, use ``torchvision.ops.box_iou``."""
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    intersection = max(width, 0.0) * max(height, 0.0)
    return intersection / (a[2] * a[3] + b[2] * b[3] - intersection) if intersection else 0.0


def detection_iou(
    ground_truth: Mapping[str, Any],
    annotation: Mapping[str, Any],
    detection: Mapping[str, Any],
    iou_type: str = "boxes",
) -> float:
    """Return the IoU, in 0…1, of an annotation of ``ground_truth`` and a detection in the same image, of "boxes" or "masks"."""
    if iou_type == "boxes":
        return box_iou_xywh(detection["bbox"], annotation["bbox"])
    import hotcoco.mask

    size = next((i["height"], i["width"]) for i in ground_truth["images"] if i["id"] == annotation["image_id"])
    mask = segmentation_to_rle(annotation["segmentation"], size)
    return float(hotcoco.mask.iou([detection["segmentation"]], [mask], [False])[0][0])
