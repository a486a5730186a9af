"""Read and validate the annotations of a COCO JSON file: box, mask, area, crowd and ignore flags of an object.

An object that cannot be used becomes an *ignored region*: neither an object nor background, in training and evaluation. If
even its region is unknown, its image has to be left out.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from featlift.data.coco_boxes import Box, Problem, box_iou_xyxy, is_finite_number, parse_box
from featlift.data.coco_document import whole_number
from featlift.data.image_io import ImageSize
from featlift.data.masks import box_to_rle, drop_stray_polygons, rle_area, rle_box, segmentation_to_rle
from featlift.data.problems import IGNORED, KEPT, Effect


@dataclass(frozen=True)
class CocoObject:
    """Object: class 1…K, box ``xyxy`` in pixels, area in pixels, and compressed run lengths if it has a mask.

    ``is_crowd`` and ``is_ignored`` objects are not trained and not counted; ``label`` 0 is an ignored region of every class.
    """

    label: int
    box: Box
    area: float
    is_crowd: bool
    is_ignored: bool
    rle: dict[str, Any] | None
    was_clipped: bool
    lost_mask: bool = False
    has_other_area: bool = False
    """Whether the annotated area was not that of mask or box."""
    has_other_extent: bool = False
    """Whether the mask extends differently from the box: IoU below 0.5."""


class HasObjects(Protocol):
    """An image with its size (height, width) and objects."""

    size: ImageSize
    objects: list[CocoObject]


@dataclass
class ParsedObject:
    """An object, None if even its region is unknown, and its problems as (kind, message, effect)."""

    instance: CocoObject | None = None
    problems: list[Problem] = field(default_factory=list)

    def add_problem(self, kind: str, message: str, effect: Effect) -> None:
        """Record a problem and what becomes of the object."""
        self.problems.append((kind, message, effect))

    @property
    def is_unusable(self) -> bool:
        """Whether a problem makes the object an ignored region."""
        return any(effect == IGNORED for _, _, effect in self.problems)


def parse_object(annotation: Mapping[str, Any], size: ImageSize, labels: Mapping[int, int]) -> ParsedObject:
    """Read an annotation of an image of ``size`` (height, width); ``labels`` maps category ids to labels 1…K."""
    parsed = ParsedObject()
    label = _parse_label(annotation, labels, parsed)
    is_crowd = _parse_flag(annotation, "iscrowd", parsed)
    is_ignored = _parse_flag(annotation, "ignore", parsed)
    rle = _parse_mask(annotation, size, parsed)
    lost_mask = rle is None and bool(parsed.problems) and parsed.problems[-1][0] == "broken segmentation"
    box, was_clipped, problem = parse_box(annotation, size, rle_box(rle) if rle else None)
    if problem:
        parsed.problems.append(problem)
    if box is None:
        return parsed
    area, given = consistent_area(annotation.get("area"), box, rle), annotation.get("area")
    has_other_area = is_finite_number(given) and area != given
    has_other_extent = rle is not None and box_iou_xyxy(box, rle_box(rle)) < 0.5
    parsed.instance = CocoObject(
        label,
        box,
        area,
        is_crowd,
        is_ignored or parsed.is_unusable,
        rle,
        was_clipped,
        lost_mask,
        has_other_area,
        has_other_extent,
    )
    return parsed


def finish_masks(images: Sequence[HasObjects]) -> bool:
    """Give every object a mask if all usable objects have one; return whether they have.

    In such a dataset an object whose own mask cannot be read becomes an ignored region; crowd and ignored regions without
    mask get that of their box.
    """
    usable = [o for image in images for o in image.objects if not (o.is_crowd or o.is_ignored or o.lost_mask)]
    if not usable or not all(instance.rle for instance in usable):
        return False
    for image in images:
        image.objects = [
            o if o.rle else replace(o, is_ignored=o.is_ignored or o.lost_mask, rle=box_to_rle(o.box, image.size))
            for o in image.objects
        ]
    return True


def _parse_label(annotation: Mapping[str, Any], labels: Mapping[int, int], parsed: ParsedObject) -> int:
    if "category_id" not in annotation:
        parsed.add_problem("object entry", "it has no category_id", IGNORED)
        return 0
    category = whole_number(annotation["category_id"])
    if category is None:
        message = f"its category_id is {annotation['category_id']!r}, not an integer (a whole number, 0 or more)"
        parsed.add_problem("object entry", message, IGNORED)
        return 0
    if category not in labels:
        message = f"there is no category {category}; known: {_format_ids(labels)}"
        parsed.add_problem("unknown category", message, IGNORED)
    return labels.get(category, 0)


def _parse_flag(annotation: Mapping[str, Any], key: str, parsed: ParsedObject) -> bool:
    value = annotation.get(key)
    if value is None or value in (0, 1):
        return bool(value)
    parsed.add_problem("object entry", f"{key} is {value!r}; it is 0 or 1", IGNORED)
    return False


def _parse_mask(annotation: Mapping[str, Any], size: ImageSize, parsed: ParsedObject) -> dict[str, Any] | None:
    """Run lengths of the mask; None without one, and if it cannot be read or covers no pixel."""
    segmentation = annotation.get("segmentation")
    if not segmentation:
        return None
    try:
        rle = segmentation_to_rle(segmentation, size)
    except ValueError as error:
        message, rest = str(error), drop_stray_polygons(segmentation)
        rle = segmentation_to_rle(rest, size) if rest else None
        effect = f"{message}; the other polygons are used" if rest else message
        parsed.add_problem("broken segmentation", effect, KEPT)
    if rle is not None and not rle_area(rle):
        parsed.add_problem("broken segmentation", "its mask covers no pixel", KEPT)
        return None
    return rle


def consistent_area(area: Any, box: Box, rle: Mapping[str, Any] | None) -> float:
    """The annotated area if it is that of the mask (or at most that of the box, without a mask), else the latter."""
    measured = rle_area(rle) if rle else (box[2] - box[0]) * (box[3] - box[1])
    return float(area) if area_is_consistent(area, box, measured, bool(rle)) else float(measured)


def area_is_consistent(area: Any, box: Box, measured: float, has_mask: bool) -> bool:
    """Whether ``area`` fits the ``measured`` px² of mask or box: within 10 % and the rim of one pixel; without mask not above."""
    if not is_finite_number(area) or area <= 0:
        return False
    tolerance = 0.1 * measured + (box[2] - box[0]) + (box[3] - box[1])
    return area - measured <= tolerance and (not has_mask or measured - area <= tolerance)


def _format_ids(ids: Mapping[int, int]) -> str:
    listed = list(map(str, sorted(ids)))
    return ", ".join(listed[:12]) + (", …" if len(listed) > 12 else "")
