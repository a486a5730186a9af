"""LabelMe: one JSON file per image, with the shapes that were drawn."""

import base64
import binascii
import io
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from featlift.data.formats.split_source import DocumentBuilder, SplitSource, relative_name
from featlift.data.formats.splits import choose_split, find_classes, split_folders
from featlift.data.masks import mask_to_rle

WITHOUT_AREA = ("point", "points", "line", "linestrip")
"""Shapes that are no objects for a detector."""
IGNORE_FLAG = "crowd"
"""Flag of shapes that are excluded from training and evaluation."""
CIRCLE_POINTS = 64
SNIFFED_BYTES = 65_536


def is_labelme(root: Path) -> bool:
    """Whether ``root`` or its split folders have LabelMe's JSON files."""
    return any(_looks_like_labelme(path) for folder in split_folders(root).values() for path in _list_json(folder)[:1])


def list_labelme_splits(root: Path) -> list[str]:
    """Splits of ``root``: its subfolders named after splits, else "all"."""
    return list(split_folders(root))


def read_labelme_split(root: Path, split: str) -> SplitSource:
    """Read the ``split`` of the folder ``root``.

    Polygons, rectangles, circles and masks are objects; those of one label and one group are one object. Points and lines have no
    area; they are counted in the notes. The classes are `find_classes` of the labels of all splits.

    Raises:
        FileNotFoundError: If there is no such split.
    """
    folders = split_folders(root)
    chosen = choose_split(root, split, folders)
    contents = {name: {path: _load(path) for path in _list_json(folder)} for name, folder in folders.items()}
    every_content = [content for files in contents.values() for content in files.values()]
    shapes = [shape for content in every_content for shape in content.get("shapes", ()) if _has_area(shape)]
    builder = DocumentBuilder("labelme", root, root, find_classes(root, {str(shape.get("label")) for shape in shapes}))
    num_without_area = sum(_add_file(builder, path, content) for path, content in contents[chosen].items())
    if num_without_area:
        builder.source.notes.append(f"{num_without_area} points and lines have no area and are left out")
    return builder.build()


def _list_json(folder: Path) -> list[Path]:
    """JSON files in ``folder`` and one folder below."""
    files = (path for pattern in ("*.json", "*/*.json") for path in sorted(folder.glob(pattern)))
    return [path for path in files if not path.name.startswith(".")]


def _looks_like_labelme(path: Path) -> bool:
    """Whether the beginning of the file has LabelMe's keys; files of COCO are too large to read for this."""
    with open(path, "rb") as file:
        beginning = file.read(SNIFFED_BYTES)
    return b'"shapes"' in beginning or b'"imagePath"' in beginning


def _load(path: Path) -> dict[str, Any]:
    """Content of a LabelMe file without the image in it; empty if it is none."""
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError):
        return {}
    is_labelme_file = isinstance(content, dict) and isinstance(content.get("shapes"), list)
    return {**content, "imageData": None} if is_labelme_file else {}


def _has_area(shape: Any) -> bool:
    return isinstance(shape, dict) and shape.get("shape_type") not in WITHOUT_AREA


def _add_file(builder: DocumentBuilder, path: Path, content: dict[str, Any]) -> int:
    """Add the image and the objects of ``path``; return the number of shapes without area."""
    if not content:
        builder.add_problem(relative_name(path, builder.source.file), "broken json", "this is no JSON file of LabelMe")
        return 0
    size = (content.get("imageHeight"), content.get("imageWidth"))
    known = size if all(isinstance(side, int) and side > 0 for side in size) else None
    image = builder.add_image(path.parent / str(content.get("imagePath", "")).replace("\\", "/"), known)  # type: ignore[arg-type]
    if image is None:
        return 0
    groups: dict[Any, list[tuple[int, dict[str, Any]]]] = {}
    for index, shape in enumerate(content["shapes"], 1):
        if _has_area(shape):
            group = shape.get("group_id")
            groups.setdefault(("shape", index) if group is None else (group, shape.get("label")), []).append(
                (index, shape)
            )
    for shapes in groups.values():
        location = f"{relative_name(path, builder.source.file)}, shape {shapes[0][0]}"
        try:
            _add_shapes(builder, image, [shape for _, shape in shapes], location)
        except (ValueError, TypeError, KeyError, IndexError, OverflowError) as error:
            builder.add_broken_object(image, location, "object entry", f"the shape cannot be read ({error})")
    return sum(not _has_area(shape) for shape in content["shapes"])


def _add_shapes(
    builder: DocumentBuilder, image: dict[str, Any], shapes: Sequence[dict[str, Any]], location: str
) -> None:
    label, kinds = builder.classes.index(str(shapes[0].get("label"))), {shape.get("shape_type") for shape in shapes}
    ignore = any((shape.get("flags") or {}).get(IGNORE_FLAG) for shape in shapes)
    if kinds == {"rectangle"} and len(shapes) == 1:
        (x1, y1), (x2, y2) = shapes[0]["points"]
        builder.add_object(image, label, (min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)), None, location, ignore)
    elif kinds == {"mask"} and len(shapes) == 1:
        mask, box = _decode_mask(shapes[0], (image["height"], image["width"]))
        builder.add_object(image, label, box, mask_to_rle(mask), location, ignore)
    else:
        builder.add_object(image, label, None, [_to_polygon(shape) for shape in shapes], location, ignore)


def _to_polygon(shape: dict[str, Any]) -> list[float]:
    kind, points = shape.get("shape_type", "polygon"), shape["points"]
    if kind == "rectangle":
        (x1, y1), (x2, y2) = points
        points = [(x1, y1), (x2, y1), (x2, y2), (x1, y2)]
    elif kind == "circle":
        (x, y), edge = points
        radius = math.dist((x, y), edge)
        angles = [2 * math.pi * index / CIRCLE_POINTS for index in range(CIRCLE_POINTS)]
        points = [(x + radius * math.cos(angle), y + radius * math.sin(angle)) for angle in angles]
    elif kind not in ("polygon", None):
        raise ValueError(f"its shape_type is {kind!r}")
    return [float(value) for x, y in points for value in (x, y)]


def _decode_mask(shape: dict[str, Any], size: tuple[int, int]) -> tuple[np.ndarray, tuple[float, float, float, float]]:
    """Mask ``[H, W]`` of the image and the box of a shape of type "mask", a PNG of the pixels between its two points."""
    try:
        crop = np.asarray(Image.open(io.BytesIO(base64.b64decode(shape["mask"], validate=True)))) > 0
    except (binascii.Error, OSError) as error:
        raise ValueError(f"its mask is no PNG: {error}") from error
    left, top = (round(min(values)) for values in zip(*shape["points"], strict=True))
    if left < 0 or top < 0 or top + crop.shape[0] > size[0] or left + crop.shape[1] > size[1]:
        raise ValueError("its mask exceeds the image")
    mask = np.zeros(size, dtype=np.uint8)
    mask[top : top + crop.shape[0], left : left + crop.shape[1]] = crop
    return mask, (float(left), float(top), float(left + crop.shape[1]), float(top + crop.shape[0]))
