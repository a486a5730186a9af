"""COCO dictionaries of boxes, written by the conversion scripts of this folder."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

Box = tuple[float, float, float, float, int, dict[str, Any]]
"""x, y, width and height in pixels, category id from 1, and further fields of the annotation."""


def read_names(name: str) -> list[str]:
    """Return the image names of a split, from ``<name>.txt`` in this folder."""
    return (Path(__file__).parent / f"{name}.txt").read_text().split()


def write_split(
    out: Path, split: str, images: Mapping[str, Sequence[Box]], size: tuple[int, int], classes: Iterable[str]
) -> None:
    """Write ``instances_<split>.json`` for ``images``, file name → boxes, of ``size`` (width, height)."""
    truth: dict[str, Any] = {"images": [], "annotations": []}
    for image_id, (name, boxes) in enumerate(images.items(), 1):
        truth["images"].append({"id": image_id, "file_name": name, "width": size[0], "height": size[1]})
        for x, y, width, height, category, fields in boxes:
            truth["annotations"].append({
                "id": len(truth["annotations"]) + 1, "image_id": image_id, "category_id": category,
                "bbox": [x, y, width, height], "area": width * height, "iscrowd": 0, "segmentation": [], **fields,
            })  # fmt: skip
    truth["categories"] = [{"id": number, "name": name} for number, name in enumerate(classes, 1)]
    (out / f"instances_{split}.json").write_text(json.dumps(truth))
