"""Pieces of pictures with boxes drawn over them, as SVG: the pixels stay pixels however far one zooms, the boxes stay
sharp.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

from featlift.evaluation.average_precision import Detection, GroundTruth
from featlift.report.data_uris import pixels_uri

Box = Sequence[float]
"""xywh, px"""


@dataclass(frozen=True)
class Outline:
    """A box ``xywh`` in the pixels of its view; ``style`` is "truth", "first", "second", "gained", "lost", "found", "missed" or "false"."""

    x: float
    y: float
    width: float
    height: float
    style: str
    label: str = ""


def outline(box: Box, style: str, label: str = "") -> Outline:
    """An `Outline` of a box ``xywh``."""
    x, y, width, height = box
    return Outline(x, y, width, height, style, label)


@dataclass(frozen=True)
class View:
    """A part of a picture, ``width`` × ``height`` px, as a data URI, and what is drawn on it."""

    uri: str
    width: int
    height: int
    outlines: list[Outline] = field(default_factory=list)
    caption: str = ""


def to_pixels(image: Tensor) -> np.ndarray:
    """``image [3, H, W]`` in 0…1 as ``[H, W, 3]`` uint8."""
    return (image.detach().clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy()


def window(box: Box, size: tuple[int, int], context: float = 3.0, smallest: int = 40) -> tuple[int, int, int, int]:
    """``(x, y, width, height)`` in whole px: a square around ``box``, ``context`` times its longer side and at least
    ``smallest``.

    It is moved, not cut, at the borders of the picture of ``size`` (H, W), and never larger than the picture.
    """
    x, y, width, height = box
    side = max(smallest, round(context * max(width, height)))
    wide, high = min(side, size[1]), min(side, size[0])
    left = min(max(0, round(x + width / 2 - wide / 2)), size[1] - wide)
    top = min(max(0, round(y + height / 2 - high / 2)), size[0] - high)
    return left, top, wide, high


def view(
    image: Tensor, outlines: Sequence[Outline], part: tuple[int, int, int, int] | None = None, caption: str = ""
) -> View:
    """``part`` (xywh; all when None) of ``image [3, H, W]`` with those ``outlines`` (in its pixels) that show there.

    Whole pictures are kept as JPEG, parts as PNG.
    """
    left, top, wide, high = part or (0, 0, image.shape[2], image.shape[1])
    pixels = to_pixels(image[:, top : top + high, left : left + wide])
    shown = [
        Outline(one.x - left, one.y - top, one.width, one.height, one.style, one.label)
        for one in outlines
        if left < one.x + one.width and one.x < left + wide and top < one.y + one.height and one.y < top + high
    ]
    return View(pixels_uri(pixels, "PNG" if part else "JPEG"), wide, high, shown, caption)


def outlines_of(
    truth: GroundTruth, detections: Sequence[Detection], image_id: int, threshold: float, style: str
) -> list[Outline]:
    """The objects of a picture (dashed, without label), then the detections at or above ``threshold`` with class and
    score.
    """
    names = {category["id"]: category["name"] for category in truth["categories"]}
    objects = [
        outline(annotation["bbox"], "truth")
        for annotation in truth["annotations"]
        if annotation["image_id"] == image_id and not annotation.get("iscrowd")
    ]
    found = [
        outline(detection["bbox"], style, f"{names[detection['category_id']]} {100 * detection['score']:.0f}")
        for detection in detections
        if detection["image_id"] == image_id and detection["score"] >= threshold
    ]
    return objects + found
