"""Tsinghua-Tencent 100K (Zhu et al., CVPR 2016): a JSON file and the folders ``train``, ``test``, ``other`` of 2048 px images.

The releases 2016 (``annotations.json``) and 2021 (``annotations_all.json``) differ in splits and labels; for a folder with
both, the release must be given. The license excludes commercial use (CC BY-NC).
"""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import torch

from featlift.data.dataset import Sample, coco_categories, consecutive_ids
from featlift.data.image_io import read_image, read_reduced_image
from featlift.features import Target
from featlift.registry import check_choice

TT100K_RELEASES = {"2016": "annotations.json", "2021": "annotations_all.json"}
TT100K_IMAGE_SIZE = 2048
HELD_OUT_EVERY = 20
"""Every n-th training image is held out, to choose the score threshold without the test images."""


@dataclass(frozen=True)
class TT100KAnnotation:
    """Image: id and path in the release, labels 1…K, and boxes xyxy in pixels."""

    image_id: int
    path: str
    labels: list[int]
    boxes: list[list[float]]


class TT100KDataset:
    """The ``split`` of a TT100K folder, with all classes of its training images (175 in 2016).

    The paper's protocol trains on all classes and evaluates the 45 of `featlift.evaluation.tt100k` (EFPN, Sec. IV-A). Signs
    of classes without training images are excluded; ``excluded_classes`` counts them by class for this split.

    Args:
        folder: Folder with the JSON file and the image folders.
        split: "train", "test", "other", "held-out" (every twentieth training image) or "train-fit" (the other training
            images).
        release: "2016" or "2021"; required if the folder has both.

    Raises:
        FileNotFoundError: If the JSON file of a release or a listed image is missing.
        ValueError: If the folder has both releases and none is given, or the split has no image.
    """

    def __init__(self, folder: str | PathLike[str], split: str = "train", release: str = "") -> None:
        self.folder = Path(folder)
        images = _read_images(self.folder, release)
        self.classes = sorted(set(_category_names(_images_of_split(images, "train"))))
        self.category_ids = consecutive_ids(self.classes)
        self.release = release
        selected = _select_split(images, split)
        if not selected:
            splits = Counter(image["path"].split("/")[0] for image in images)
            raise ValueError(f"{self.folder} has no split '{split}'; it has {dict(splits)}.")
        self._annotations = [_parse_annotation(image, self.classes) for image in selected]
        names = _category_names(selected)
        self.excluded_classes = Counter(name for name in names if name not in self.classes)
        missing = [a.path for a in self._annotations if not (self.folder / a.path).is_file()]
        if missing:
            raise FileNotFoundError(
                f"{len(missing)} of {len(selected)} images listed in the JSON file are not in {self.folder}, such as {missing[0]}. "
                "Check that the archive is unpacked and of the same release as the JSON file."
            )

    def __len__(self) -> int:
        return len(self._annotations)

    def __getitem__(self, index: int) -> Sample:
        """Image ``index`` [3, H, W] float32 in 0…1 and its target; see `featlift.data.dataset`."""
        return read_image(self.image_path(index)), self._target(index)

    def read_reduced(self, index: int, min_size: tuple[int, int]) -> Sample:
        """As ``dataset[index]``, by `featlift.data.image_io.read_reduced_image`; the target is that of the full image."""
        return read_reduced_image(self.image_path(index), min_size), self._target(index)

    def image_path(self, index: int) -> Path:
        """Path of the image file."""
        return self.folder / self._annotations[index].path

    def _target(self, index: int) -> Target:
        annotation = self._annotations[index]
        boxes = torch.tensor(annotation.boxes, dtype=torch.float32).reshape(-1, 4)
        return {
            "boxes": boxes,
            "labels": torch.tensor(annotation.labels, dtype=torch.int64),
            "iscrowd": torch.zeros(len(boxes), dtype=torch.int64),
            "area": (boxes[:, 2:] - boxes[:, :2]).prod(dim=1),
            "image_id": torch.tensor(annotation.image_id),
        }

    def image_name(self, index: int) -> str:
        """Path relative to the folder."""
        return self._annotations[index].path

    def image_size(self, index: int) -> tuple[int, int]:
        """Height and width in pixels: 2048 for all images of TT100K (the papers' "2400" is an error)."""
        return TT100K_IMAGE_SIZE, TT100K_IMAGE_SIZE

    def coco(self) -> dict[str, Any]:
        """Ground truth as a COCO dictionary; areas are box areas."""
        images, annotations = [], []
        for a in self._annotations:
            images.append(
                {"id": a.image_id, "file_name": a.path, "height": TT100K_IMAGE_SIZE, "width": TT100K_IMAGE_SIZE}
            )
            for label, (left, top, right, bottom) in zip(a.labels, a.boxes, strict=True):
                annotations.append({
                    "id": len(annotations) + 1, "image_id": a.image_id, "category_id": label, "iscrowd": 0,
                    "bbox": [left, top, right - left, bottom - top], "area": (right - left) * (bottom - top),
                })  # fmt: skip
        return {"images": images, "annotations": annotations, "categories": coco_categories(self.classes)}


def _read_images(folder: Path, release: str) -> list[dict[str, Any]]:
    """Images of the JSON file of ``release``, or of the only release in ``folder``."""
    if release:
        check_choice(release, TT100K_RELEASES, "release of TT100K")
    present = {name: folder / file for name, file in TT100K_RELEASES.items() if (folder / file).is_file()}
    selected = {name: path for name, path in present.items() if release in ("", name)}
    if not selected:
        raise FileNotFoundError(
            f"{folder} has none of {', '.join(TT100K_RELEASES.values())}; give the folder that contains it."
        )
    if len(selected) > 1:
        raise ValueError(
            f"{folder} has both releases, whose splits and labels differ; choose {' or '.join(TT100K_RELEASES)}."
        )
    (path,) = selected.values()
    return list(json.loads(path.read_text(encoding="utf-8"))["imgs"].values())


def _images_of_split(images: Sequence[dict[str, Any]], split: str) -> list[dict[str, Any]]:
    return sorted((image for image in images if image["path"].split("/")[0] == split), key=lambda image: image["id"])


def _category_names(images: Sequence[dict[str, Any]]) -> list[str]:
    return [instance["category"] for image in images for instance in image.get("objects", [])]


def _select_split(images: Sequence[dict[str, Any]], split: str) -> list[dict[str, Any]]:
    """Images of ``split``, which may be a part of the training images."""
    if split not in ("train-fit", "held-out"):
        return _images_of_split(images, split)
    train = enumerate(_images_of_split(images, "train"))
    return [image for i, image in train if (i % HELD_OUT_EVERY == HELD_OUT_EVERY - 1) == (split == "held-out")]


def _parse_annotation(image: dict[str, Any], classes: Sequence[str]) -> TT100KAnnotation:
    """Annotation of an image with the signs of ``classes``; boxes are clipped to the image."""
    labels = {name: label for label, name in enumerate(classes, start=1)}
    objects = [instance for instance in image.get("objects", []) if instance["category"] in labels]
    keys = ("xmin", "ymin", "xmax", "ymax")
    boxes = [[float(min(max(instance["bbox"][key], 0), TT100K_IMAGE_SIZE)) for key in keys] for instance in objects]
    return TT100KAnnotation(int(image["id"]), image["path"], [labels[o["category"]] for o in objects], boxes)
