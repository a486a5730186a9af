"""Tsinghua-Tencent 100K (Zhu et al., CVPR 2016): ``annotations.json`` and the folders ``train``, ``test``, ``other`` of 2048 px pictures.

There are two releases with other splits and other labels, 2016 (``annotations.json``) and 2021 (``annotations_all.json``); a folder with
both is refused unless one is named. The data may not be used commercially (CC BY-NC).
"""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import torch

from featlift.data.dataset import Sample, coco_categories
from featlift.data.image_io import read_image

TT100K_RELEASES = {"2016": "annotations.json", "2021": "annotations_all.json"}
TT100K_IMAGE_SIZE = 2048
HELD_OUT_EVERY = 20
"""One of so many training pictures is held out: there, and never on the test pictures, a score limit is chosen."""


@dataclass(frozen=True)
class TT100KAnnotation:
    """A picture: its number and path in the release, labels, and boxes xyxy in px."""

    image_id: int
    path: str
    labels: list[int]
    boxes: list[list[float]]


class TT100KDataset:
    """The ``split`` of a TT100K folder, with all classes that its training pictures have (175 in 2016).

    Training on all of them and measuring the 45 of `featlift.evaluation.tt100k` is the paper's protocol (EFPN, Sec. IV-A). Signs of classes
    that no training picture has cannot be asked for; ``excluded_classes`` counts those of this split by class.

    Args:
        folder: with the json and the folders of pictures.
        split: "train", "test", "other"; "held-out" is every twentieth of the training pictures, "learned" the others.
        release: "2016" or "2021"; needed if both are there.

    Raises:
        FileNotFoundError: if there is no json of a release, or a picture it lists is not there.
        ValueError: if both releases are there and none is named, or the split has no picture.
    """

    def __init__(self, folder: str | PathLike[str], split: str = "train", release: str = "") -> None:
        self.folder = Path(folder)
        pictures = _read_images(self.folder, release)
        train = [thing["category"] for one in _images_of_split(pictures, "train") for thing in one.get("objects", [])]
        self.classes = sorted(set(train))
        self.release = release
        chosen = _select_split(pictures, split)
        if not chosen:
            found = Counter(one["path"].split("/")[0] for one in pictures)
            raise ValueError(f"{self.folder} has no split '{split}'; it has {dict(found)}.")
        self._annotations = [_parse_annotation(one, self.classes) for one in chosen]
        names = [thing["category"] for one in chosen for thing in one.get("objects", [])]
        self.excluded_classes = Counter(name for name in names if name not in self.classes)
        missing = [a.path for a in self._annotations if not (self.folder / a.path).is_file()]
        if missing:
            raise FileNotFoundError(
                f"{len(missing)} of {len(chosen)} pictures that the json lists are not in {self.folder}, such as {missing[0]}. Is the "
                "archive unpacked, and of the same release as the json?"
            )

    def __len__(self) -> int:
        return len(self._annotations)

    def __getitem__(self, index: int) -> Sample:
        """Picture ``index`` [3, H, W] float32 in 0…1 and its target; see `featlift.data.dataset`."""
        found = self._annotations[index]
        boxes = torch.tensor(found.boxes, dtype=torch.float32).reshape(-1, 4)
        return read_image(self.folder / found.path), {
            "boxes": boxes,
            "labels": torch.tensor(found.labels, dtype=torch.int64),
            "iscrowd": torch.zeros(len(boxes), dtype=torch.int64),
            "area": (boxes[:, 2:] - boxes[:, :2]).prod(dim=1),
            "image_id": torch.tensor(found.image_id),
        }

    def image_name(self, index: int) -> str:
        """The path below the folder."""
        return self._annotations[index].path

    def image_size(self, index: int) -> tuple[int, int]:
        """Height and width in pixels: all pictures of TT100K have 2048 (the papers' "2400" is a slip)."""
        return TT100K_IMAGE_SIZE, TT100K_IMAGE_SIZE

    def coco(self) -> dict[str, Any]:
        """The ground truth in COCO's form, areas those of the boxes."""
        images, annotations = [], []
        for found in self._annotations:
            images.append(
                {"id": found.image_id, "file_name": found.path, "height": TT100K_IMAGE_SIZE, "width": TT100K_IMAGE_SIZE}
            )
            for label, (left, top, right, bottom) in zip(found.labels, found.boxes, strict=True):
                annotations.append({
                    "id": len(annotations) + 1, "image_id": found.image_id, "category_id": label, "iscrowd": 0,
                    "bbox": [left, top, right - left, bottom - top], "area": (right - left) * (bottom - top),
                })  # fmt: skip
        return {"images": images, "annotations": annotations, "categories": coco_categories(self.classes)}


def _read_images(folder: Path, release: str) -> list[dict[str, Any]]:
    """The pictures of the json of ``release``, or of the only one there is."""
    if release and release not in TT100K_RELEASES:
        raise ValueError(f"Unknown release '{release}' of TT100K; there are {', '.join(TT100K_RELEASES)}.")
    there = {name: folder / file for name, file in TT100K_RELEASES.items() if (folder / file).is_file()}
    chosen = {name: path for name, path in there.items() if release in ("", name)}
    if not chosen:
        raise FileNotFoundError(
            f"{folder} has none of {', '.join(TT100K_RELEASES.values())}; name the folder that holds it."
        )
    if len(chosen) > 1:
        raise ValueError(
            f"{folder} has both releases, whose splits and labels differ; choose {' or '.join(TT100K_RELEASES)}."
        )
    (path,) = chosen.values()
    return list(json.loads(path.read_text(encoding="utf-8"))["imgs"].values())


def _images_of_split(images: Sequence[dict[str, Any]], split: str) -> list[dict[str, Any]]:
    return sorted((one for one in images if one["path"].split("/")[0] == split), key=lambda one: one["id"])


def _select_split(images: Sequence[dict[str, Any]], split: str) -> list[dict[str, Any]]:
    """Those of ``split``, which may be a part of the training pictures."""
    if split not in ("learned", "held-out"):
        return _images_of_split(images, split)
    numbered = enumerate(_images_of_split(images, "train"))
    return [one for place, one in numbered if (place % HELD_OUT_EVERY == HELD_OUT_EVERY - 1) == (split == "held-out")]


def _parse_annotation(image: dict[str, Any], classes: Sequence[str]) -> TT100KAnnotation:
    """A picture's entry, with the signs of ``classes``."""
    places = {name: place for place, name in enumerate(classes, start=1)}
    known = [thing for thing in image.get("objects", []) if thing["category"] in places]
    sides = ("xmin", "ymin", "xmax", "ymax")
    boxes = [[float(min(max(thing["bbox"][side], 0), TT100K_IMAGE_SIZE)) for side in sides] for thing in known]
    return TT100KAnnotation(int(image["id"]), image["path"], [places[thing["category"]] for thing in known], boxes)
