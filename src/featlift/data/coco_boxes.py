"""Boxes of COCO annotations: read, recognized if they are in another form, and clipped to their image."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from featlift.data.image_io import ImageSize
from featlift.data.problems import IGNORED, KEPT, LEFT_OUT, Effect

Box = tuple[float, float, float, float]
"""Left, top, right and bottom edge, in pixels."""

BOX_TOLERANCE = 1.0
"""Pixels a box may exceed its image by rounding; such boxes are clipped, larger excesses are reported."""
MIN_BOX_SIDE = 2.0**-10
"""Pixels; smaller boxes vanish in 32-bit coordinates."""
MIN_VISIBLE = 0.5
"""Fraction of a box that has to lie inside the image for the clipped box to be used."""
Problem = tuple[str, str, Effect]
"""Kind, message and effect."""


def parse_box(
    annotation: Mapping[str, Any], size: ImageSize, extent: Box | None
) -> tuple[Box | None, bool, Problem | None]:
    """Read ``bbox`` of an annotation in an image of ``size`` (height, width).

    Args:
        annotation: Annotation of a COCO JSON file.
        size: Height and width of its image.
        extent: Box of its mask, which stands in for an absent or unreadable box; None without mask.

    Returns:
        The box clipped to the image, None if the region of the object is unknown; whether clipping changed it; and its problem.
    """
    if annotation.get("bbox") is None and extent:
        return extent, False, None
    error, kind = _number_error(annotation), "broken box" if "bbox" in annotation else "object entry"
    if not error:
        error, kind = _misread_box(annotation, extent, size), "misread box"
    if error:
        return extent, False, (kind, error, IGNORED if extent else LEFT_OUT)
    return _clip_box(annotation["bbox"], size)


def _number_error(annotation: Mapping[str, Any]) -> str:
    if "bbox" not in annotation:
        return "it has no bbox"
    box = annotation["bbox"]
    if not isinstance(box, list) or len(box) != 4:
        return f"its bbox is {_shorten(box)}; a box is four numbers: left, top, width, height"
    if not all(is_finite_number(value) for value in box):
        return f"its bbox {_shorten(box)} has a value that is not a finite number"
    if box[2] < 0 or box[3] < 0:
        return f"its bbox {box} has no area (left, top, width, height)"
    return ""


def _misread_box(annotation: Mapping[str, Any], extent: Box | None, size: ImageSize) -> str:
    """Message if the box is not left, top, width and height in pixels: normalized, as corners, or off its mask."""
    left, top, width, height = map(float, annotation["bbox"])
    box = (left, top, width, height)
    as_corners, as_sides = (left, top, width, height), (left, top, left + width, top + height)
    if is_normalized(box, size):
        return f"its bbox {annotation['bbox']} looks normalized to 0…1; boxes are in pixels"
    if extent and box_iou_xyxy(as_corners, extent) > 0.9 > 0.5 > box_iou_xyxy(as_sides, extent):
        return f"its bbox {annotation['bbox']} looks like left, top, right, bottom: its mask extends so; COCO has width and height"
    if extent and width > 0 < height and not box_iou_xyxy(as_sides, extent):
        extends = ", ".join(f"{edge:g}" for edge in extent)
        return f"its mask (left, top, right, bottom {extends}) does not touch its bbox {annotation['bbox']}"
    return ""


def is_normalized(box: Sequence[float], size: ImageSize) -> bool:
    """Whether left, top, width, height are fractions of the image: inside its first pixel, with a fractional side."""
    left, top, width, height = box
    inside = left >= 0 and top >= 0 and left + width <= 1.001 and top + height <= 1.001
    return inside and (0 < width < 1 or 0 < height < 1) and min(size) > 1


def area_is_of_corners(area: Any, box: Sequence[float]) -> bool:
    """Whether ``area`` is that of ``box`` read as left, top, right, bottom, and not as left, top, width, height.

    A single object may agree by chance, so this shows something of a whole file only.
    """
    left, top, right, bottom = box
    if not is_finite_number(area) or area <= 0 or right <= left or bottom <= top or not (left or top):
        return False
    corners, sides = (right - left) * (bottom - top), right * bottom
    return abs(area - corners) <= 0.01 * corners and abs(area - sides) > 0.05 * sides


def _clip_box(box: Sequence[float], size: ImageSize) -> tuple[Box | None, bool, Problem | None]:
    left, top, right, bottom = float(box[0]), float(box[1]), float(box[0] + box[2]), float(box[1] + box[3])
    clipped = (max(0.0, left), max(0.0, top), min(float(size[1]), right), min(float(size[0]), bottom))
    excess = max(-left, -top, right - size[1], bottom - size[0])
    width, height = clipped[2] - clipped[0], clipped[3] - clipped[1]
    if width < MIN_BOX_SIDE or height < MIN_BOX_SIDE:
        is_outside = width < 0 or height < 0 or excess > BOX_TOLERANCE
        message = (
            f"its bbox {list(box)} has no area{' inside the image' if excess > 0 else ''} (left, top, width, height)"
        )
        region = None if is_outside else _grow_to_pixels(clipped, size)
        return region, True, ("broken box", message, LEFT_OUT if is_outside else IGNORED)
    was_clipped, problem = clipped != (left, top, right, bottom), None
    if excess > BOX_TOLERANCE:
        visible = width * height / ((right - left) * (bottom - top))
        message = f"its bbox {list(box)} exceeds the image of {size[1]}x{size[0]} pixels by {excess:g} px"
        problem = ("box outside", message, KEPT if visible >= MIN_VISIBLE else IGNORED)
    return clipped, was_clipped, problem


def _grow_to_pixels(box: Box, size: ImageSize) -> Box:
    """Smallest box of whole pixels of the image that contains ``box``, at least one pixel."""
    left, top = min(math.floor(box[0]), size[1] - 1), min(math.floor(box[1]), size[0] - 1)
    return float(left), float(top), float(max(left + 1, math.ceil(box[2]))), float(max(top + 1, math.ceil(box[3])))


def is_finite_number(value: Any) -> bool:
    """Whether ``value`` is a finite number that a float holds."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def box_iou_xyxy(a: Box, b: Box) -> float:
    """IoU, in 0…1, of two boxes ``xyxy``."""
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    intersection = max(width, 0.0) * max(height, 0.0)
    areas = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (a, b))
    return intersection / (areas - intersection) if intersection else 0.0


def _shorten(value: Any) -> str:
    """``value`` as text of at most 80 characters; numbers of thousands of digits have none."""
    try:
        text = repr(value)
    except ValueError:
        return "a number of thousands of digits"
    return text if len(text) <= 80 else f"{text[:80]}…"
