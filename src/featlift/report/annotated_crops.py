"""Pieces of pictures with boxes drawn over them, as SVG: the pixels stay pixels however far one zooms, the boxes stay
sharp.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

from featlift.evaluation.average_precision import Detection, GroundTruth
from featlift.report.data_uris import image_data_uri

BoxXYWH = Sequence[float]
"""xywh, px"""


@dataclass(frozen=True)
class StyledBox:
    """A box ``xywh`` in the pixels of its view; ``style`` is "truth", "first", "second", "gained", "lost", "found", "missed" or "false"."""

    x: float
    y: float
    width: float
    height: float
    style: str
    label: str = ""


def make_styled_box(box: BoxXYWH, style: str, label: str = "") -> StyledBox:
    """An `Outline` of a box ``xywh``."""
    x, y, width, height = box
    return StyledBox(x, y, width, height, style, label)


@dataclass(frozen=True)
class AnnotatedImage:
    """A part of a picture, ``width`` × ``height`` px, as a data URI, and what is drawn on it."""

    uri: str
    width: int
    height: int
    boxes: list[StyledBox] = field(default_factory=list)
    caption: str = ""


def to_uint8(image: Tensor) -> np.ndarray:
    """``image [3, H, W]`` in 0…1 as ``[H, W, 3]`` uint8."""
    return (image.detach().clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy()


def crop_around(
    box: BoxXYWH, size: tuple[int, int], context: float = 3.0, min_size: int = 40
) -> tuple[int, int, int, int]:
    """``(x, y, width, height)`` in whole px: a square around ``box``, ``context`` times its longer side and at least
    ``min_size``.

    It is moved, not cut, at the borders of the picture of ``size`` (H, W), and never larger than the picture.
    """
    x, y, width, height = box
    side = max(min_size, round(context * max(width, height)))
    wide, high = min(side, size[1]), min(side, size[0])
    left = min(max(0, round(x + width / 2 - wide / 2)), size[1] - wide)
    top = min(max(0, round(y + height / 2 - high / 2)), size[0] - high)
    return left, top, wide, high


def annotate_image(
    image: Tensor, boxes: Sequence[StyledBox], crop: tuple[int, int, int, int] | None = None, caption: str = ""
) -> AnnotatedImage:
    """``crop`` (xywh; all when None) of ``image [3, H, W]`` with those ``boxes`` (in its pixels) that show there.

    Whole pictures are kept as JPEG, parts as PNG.
    """
    left, top, wide, high = crop or (0, 0, image.shape[2], image.shape[1])
    pixels = to_uint8(image[:, top : top + high, left : left + wide])
    shown = [
        StyledBox(one.x - left, one.y - top, one.width, one.height, one.style, one.label)
        for one in boxes
        if left < one.x + one.width and one.x < left + wide and top < one.y + one.height and one.y < top + high
    ]
    return AnnotatedImage(image_data_uri(pixels, "PNG" if crop else "JPEG"), wide, high, shown, caption)


def build_styled_boxes(
    ground_truth: GroundTruth, detections: Sequence[Detection], image_id: int, score_threshold: float, style: str
) -> list[StyledBox]:
    """The objects of a picture (dashed, without label), then the detections at or above ``score_threshold`` with class and
    score.
    """
    names = {category["id"]: category["name"] for category in ground_truth["categories"]}
    objects = [
        make_styled_box(annotation["bbox"], "truth")
        for annotation in ground_truth["annotations"]
        if annotation["image_id"] == image_id and not annotation.get("iscrowd")
    ]
    found = [
        make_styled_box(detection["bbox"], style, f"{names[detection['category_id']]} {100 * detection['score']:.0f}")
        for detection in detections
        if detection["image_id"] == image_id and detection["score"] >= score_threshold
    ]
    return objects + found
