"""Conversion between masks and COCO's run-length encodings and polygons."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

MAX_COORDINATE = 1e7
"""Pixels; larger coordinates of a polygon, NaN and infinity are errors."""


def mask_to_rle(mask: NDArray[Any]) -> dict[str, Any]:
    """Compressed run lengths of ``mask`` [H, W], serializable as JSON: ``{"size": [H, W], "counts": "…"}``."""
    import hotcoco.mask

    return _json_rle(hotcoco.mask.encode(np.asfortranarray(mask, dtype=np.uint8)))


def segmentation_to_rle(segmentation: Any, size: tuple[int, int]) -> dict[str, Any]:
    """Convert COCO's ``segmentation`` to compressed run lengths for an image of ``size`` (height, width).

    A segmentation is a list of polygons ``[x1, y1, x2, y2, …]`` whose union is the object, or run lengths with
    ``counts`` as a list or a string.

    Raises:
        ValueError: If the segmentation is invalid.
    """
    import hotcoco.mask

    if isinstance(segmentation, dict):
        return _json_rle(_parse_rle(segmentation, size))
    _check_polygons(segmentation)
    return _json_rle(hotcoco.mask.merge(hotcoco.mask.fr_py_objects(segmentation, *size)))


def rle_to_mask(rle: dict[str, Any]) -> NDArray[np.uint8]:
    """Decode compressed run lengths to ``[H, W]`` uint8 in {0, 1}."""
    import hotcoco.mask

    return np.ascontiguousarray(hotcoco.mask.decode(rle))


def box_to_rle(box: Sequence[float], size: tuple[int, int]) -> dict[str, Any]:
    """Run lengths of the pixels of ``box`` (xyxy), for an image of ``size`` (height, width)."""
    left, top, right, bottom = box
    return segmentation_to_rle([[left, top, right, top, right, bottom, left, bottom]], size)


def rle_area(rle: Any) -> int:
    """Number of pixels of a mask in run lengths."""
    import hotcoco.mask

    return int(hotcoco.mask.area(rle))


def rle_box(rle: Any) -> tuple[float, float, float, float]:
    """Extent of a mask in run lengths: left, top, right and bottom edge, in pixels."""
    import hotcoco.mask

    left, top, width, height = map(float, hotcoco.mask.to_bbox(rle))
    return left, top, left + width, top + height


def drop_stray_polygons(segmentation: Any) -> list[list[float]]:
    """The valid polygons of ``segmentation``, without those of fewer than three points; none if it is something else."""
    return (
        [polygon for polygon in segmentation if not _polygon_error(polygon)] if isinstance(segmentation, list) else []
    )


def _parse_rle(segmentation: dict[str, Any], size: tuple[int, int]) -> dict[str, Any]:
    import hotcoco.mask

    if segmentation.get("size") not in (list(size), tuple(size)):
        raise ValueError(f"its run lengths are for size {segmentation.get('size')}, the image has {list(size)}")
    try:
        rle = hotcoco.mask.fr_py_objects(segmentation, *size)
        hotcoco.mask.area(rle)
    except Exception as error:
        raise ValueError(f"its run lengths cannot be read ({error})") from error
    counts = segmentation["counts"]
    if isinstance(counts, list) and sum(counts) != size[0] * size[1]:
        raise ValueError(f"its run lengths add up to {sum(counts)}, not to {size[0]}·{size[1]} pixels")
    return rle


def _check_polygons(polygons: Any) -> None:
    if not isinstance(polygons, list) or not polygons or not all(isinstance(polygon, list) for polygon in polygons):
        raise ValueError("it is neither a list of polygons nor run lengths")
    for index, polygon in enumerate(polygons):
        error = _polygon_error(polygon)
        if error:
            raise ValueError(f"polygon {index} has {error}")


def _polygon_error(polygon: Any) -> str:
    if not isinstance(polygon, list) or len(polygon) < 6 or len(polygon) % 2:
        return (
            f"{len(polygon) if isinstance(polygon, list) else 'no'} numbers; it takes x and y of at least three points"
        )
    if not all(_is_coordinate(value) for value in polygon):
        return "a coordinate that is not a finite number"
    return ""


def _is_coordinate(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < MAX_COORDINATE


def _json_rle(rle: dict[str, Any]) -> dict[str, Any]:
    counts = rle["counts"]
    return {
        "size": [int(side) for side in rle["size"]],
        "counts": counts.decode("ascii") if isinstance(counts, bytes) else counts,
    }
