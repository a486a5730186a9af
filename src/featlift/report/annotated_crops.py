"""Image crops with bounding boxes for SVG output: pixels are not resampled at any zoom level, boxes stay sharp."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

from featlift.evaluation.coco_metrics import Detection, GroundTruth
from featlift.report.data_uris import image_data_uri

BoxXYWH = Sequence[float]
"""xywh, pixels."""


@dataclass(frozen=True)
class StyledBox:
    """A box xywh in pixels of its image; ``style`` is "truth", "first", "second", "gained", "lost", "found", "missed" or "false"."""

    x: float
    y: float
    width: float
    height: float
    style: str
    label: str = ""


def make_styled_box(box: BoxXYWH, style: str, label: str = "") -> StyledBox:
    """Return the `StyledBox` of a box xywh."""
    x, y, width, height = box
    return StyledBox(x, y, width, height, style, label)


@dataclass(frozen=True)
class AnnotatedImage:
    """An image or crop of ``width`` × ``height`` px as a data URI, with the boxes drawn on it."""

    uri: str
    width: int
    height: int
    boxes: list[StyledBox] = field(default_factory=list)
    caption: str = ""


def to_uint8(image: Tensor) -> np.ndarray:
    """Convert ``image [3, H, W]`` in 0…1 to ``[H, W, 3]`` uint8."""
    return (image.detach().clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy()


def crop_around(
    box: BoxXYWH, size: tuple[int, int], context: float = 3.0, min_size: int = 40
) -> tuple[int, int, int, int]:
    """Return a square crop (x, y, width, height) in integer pixels around ``box``.

    Its side is ``context`` times the longer side of the box, at least ``min_size``. At the borders of the image of
    ``size`` (H, W) the crop is shifted, not clipped; it is never larger than the image.
    """
    x, y, width, height = box
    side = max(min_size, round(context * max(width, height)))
    crop_width, crop_height = min(side, size[1]), min(side, size[0])
    left = min(max(0, round(x + width / 2 - crop_width / 2)), size[1] - crop_width)
    top = min(max(0, round(y + height / 2 - crop_height / 2)), size[0] - crop_height)
    return left, top, crop_width, crop_height


def annotate_image(
    image: Tensor, boxes: Sequence[StyledBox], crop: tuple[int, int, int, int] | None = None, caption: str = ""
) -> AnnotatedImage:
    """Crop ``image [3, H, W]`` to ``crop`` (xywh; None: the whole image) and keep the ``boxes`` (in its pixels) that intersect it.

    Whole images are stored as JPEG, crops as PNG.
    """
    left, top, width, height = crop or (0, 0, image.shape[2], image.shape[1])
    pixels = to_uint8(image[:, top : top + height, left : left + width])
    visible = [
        StyledBox(box.x - left, box.y - top, box.width, box.height, box.style, box.label)
        for box in boxes
        if left < box.x + box.width and box.x < left + width and top < box.y + box.height and box.y < top + height
    ]
    return AnnotatedImage(image_data_uri(pixels, "PNG" if crop else "JPEG"), width, height, visible, caption)


def build_styled_boxes(
    ground_truth: GroundTruth, detections: Sequence[Detection], image_id: int, score_threshold: float, style: str
) -> list[StyledBox]:
    """Return the boxes of an image's objects (dashed, unlabeled), then of the detections at or above ``score_threshold``.

    Detections are labeled with class and score in percent.
    """
    names = {category["id"]: category["name"] for category in ground_truth["categories"]}
    objects = [
        make_styled_box(annotation["bbox"], "truth")
        for annotation in ground_truth["annotations"]
        if annotation["image_id"] == image_id and not annotation.get("iscrowd")
    ]
    detected = [
        make_styled_box(detection["bbox"], style, f"{names[detection['category_id']]} {100 * detection['score']:.0f}")
        for detection in detections
        if detection["image_id"] == image_id and detection["score"] >= score_threshold
    ]
    return objects + detected
