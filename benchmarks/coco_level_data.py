"""Held-out COCO images of `coco_level.py`: all 80 classes on 234 images, and persons on 300 others."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_folder import DATA

from featlift.data.coco import CocoDataset

COCO, PRETRAINED = DATA / "coco", DATA / "coco_pretrained"
UNLABELED = PRETRAINED / "unlabelled"
PARTS = {
    "coco80": (
        (PRETRAINED / "instances_val80.json", PRETRAINED / "val80"),
        (COCO / "annotations" / "instances_train2017.json", COCO / "train2017"),
        (COCO / "annotations" / "instances_val2017.json", COCO / "val2017"),
    ),
    "persons": ((PRETRAINED / "instances_val.json", PRETRAINED / "val"),),
}
"""Set → COCO files and their folders."""
TITLES = {"coco80": "COCO, 80 classes", "persons": "COCO, persons"}


@dataclass(frozen=True)
class CocoImages:
    """Labeled images that are not among those of the training.

    Attributes:
        name: Name of the set.
        title: Title of its table.
        dataset: Images and ground truth.
        label_ids: Label of YOLOX (1…80) → category id, None for classes without ground truth.
    """

    name: str
    title: str
    dataset: CocoDataset
    label_ids: dict[int, int | None]


def open_held_out(name: str, folder: Path) -> CocoImages:
    """Open a set; its annotations are joined in ``folder``."""
    excluded = {path.name for path in UNLABELED.iterdir()}
    joined = join_parts(PARTS[name], excluded)
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{name}.json"
    file.write_text(json.dumps(joined))
    dataset = CocoDataset(file, DATA, load_masks=False)
    ids = sorted(category["id"] for category in joined["categories"])
    label_ids: dict[int, int | None] = {label: ids[label - 1] if label <= len(ids) else None for label in range(1, 81)}
    return CocoImages(name, TITLES[name], dataset, label_ids)


def join_parts(parts: Sequence[tuple[Path, Path]], excluded: set[str]) -> dict[str, Any]:
    """Join COCO files with the same classes; images of the names ``excluded`` are left out. File names start at `DATA`."""
    joined: dict[str, Any] = {"images": [], "annotations": []}
    for file, images in parts:
        content = json.loads(file.read_text())
        kept = [image for image in content["images"] if image["file_name"] not in excluded]
        ids = {image["id"] for image in kept}
        relative = images.relative_to(DATA)
        joined["images"] += [{**image, "file_name": str(relative / image["file_name"])} for image in kept]
        joined["annotations"] += [one for one in content["annotations"] if one["image_id"] in ids]
        joined["categories"] = content["categories"]
    for number, annotation in enumerate(joined["annotations"], 1):
        annotation["id"] = number
    return joined
