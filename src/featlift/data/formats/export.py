"""A dataset as the writers of formats take it: images that are copied byte by byte, and their objects."""

import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from featlift.data.dataset import ImageDataset
from featlift.data.image_io import IMAGE_SUFFIXES, ImageSize, is_rotated


@dataclass
class ExportObject:
    """Object: index of its class, box xyxy in pixels, run lengths of its mask if it has one, whether it is excluded from training."""

    label: int
    box: tuple[float, float, float, float]
    rle: dict[str, Any] | None
    ignore: bool


@dataclass
class ExportImage:
    """Image: its name without suffix, unique in all splits, its id and size (height, width), its objects, and where it comes from."""

    name: str
    image_id: int
    size: ImageSize
    objects: list[ExportObject]
    dataset: ImageDataset
    index: int

    def write(self, folder: Path) -> Path:
        """Write the image into ``folder`` and return its path.

        An image file is copied; pixels that are not in a file, or that an EXIF orientation turns, which not every library applies, are
        written as PNG.
        """
        find_file = getattr(self.dataset, "image_file", None)
        file = find_file(self.index) if find_file else None
        suffix = Path(str(file)).suffix
        if file is None or suffix.lower() not in IMAGE_SUFFIXES or is_rotated(file):
            pixels = (self.dataset[self.index][0] * 255).round().byte().permute(1, 2, 0).numpy()
            path = folder / f"{self.name}.png"
            Image.fromarray(np.ascontiguousarray(pixels)).save(path)
            return path
        path = folder / f"{self.name}{suffix}"
        with file.open("rb") as source, open(path, "wb") as target:
            shutil.copyfileobj(source, target)
        return path


@dataclass
class ExportSplit:
    """A split: class names, their ids, and images."""

    classes: list[str]
    category_ids: list[int]
    images: list[ExportImage]

    @property
    def objects(self) -> list[ExportObject]:
        """Objects of all images."""
        return [instance for image in self.images for instance in image.objects]


@dataclass
class Losses:
    """What a format cannot store, counted; `lines` are printed after a conversion."""

    counts: Counter[str] = field(default_factory=Counter)

    def add(self, what: str, number: int = 1) -> None:
        """Count ``number`` of ``what``."""
        self.counts[what] += number

    def lines(self) -> list[str]:
        """``"3 crowd regions are left out"`` for each."""
        return [f"{number} {what}" for what, number in self.counts.items() if number]


def collect_splits(datasets: Mapping[str, ImageDataset]) -> dict[str, ExportSplit]:
    """Collect the images and objects of ``datasets`` by split, with names that are unique in all."""
    truths = {split: _ground_truth(dataset) for split, dataset in datasets.items()}
    files = [image["file_name"] for truth in truths.values() for image in truth["images"]]
    names = iter(unique_names(files))
    return {split: _collect(dataset, truths[split], names) for split, dataset in datasets.items()}


def unique_names(files: Sequence[str]) -> list[str]:
    """Names without folders and suffix for ``files``: folders that not all share become a prefix, ``cam0/1.png`` → ``cam0_1``; equal
    names, also if only in case, get a number.
    """
    paths = [
        [part for part in Path(file.replace("\\", "/")).with_suffix("").parts if part not in ("..", "/")]
        for file in files
    ]
    shared = 0
    while paths and all(len(path) > shared + 1 and path[shared] == paths[0][shared] for path in paths):
        shared += 1
    names, used = [], set()
    for path in paths:
        stem = "_".join(path[shared:]).replace(":", "_") or "image"
        candidates = (stem if number == 1 else f"{stem}-{number}" for number in range(1, len(files) + 2))
        name = next(candidate for candidate in candidates if candidate.casefold() not in used)
        used.add(name.casefold())
        names.append(name)
    return names


def _ground_truth(dataset: ImageDataset) -> dict[str, Any]:
    """COCO dictionary with every mask, also if not all objects have one."""
    try:
        return dataset.coco(every_mask=True)  # type: ignore[call-arg]
    except TypeError:
        return dataset.coco()


def _collect(dataset: ImageDataset, truth: Mapping[str, Any], names: Any) -> ExportSplit:
    labels = {id_: index for index, id_ in enumerate(dataset.category_ids)}
    objects: dict[int, list[ExportObject]] = {}
    for a in truth["annotations"]:
        left, top, width, height = a["bbox"]
        box, ignore = (left, top, left + width, top + height), bool(a["iscrowd"] or a.get("ignore"))
        objects.setdefault(a["image_id"], []).append(
            ExportObject(labels[a["category_id"]], box, a.get("segmentation"), ignore)
        )
    images = [
        ExportImage(
            next(names), image["id"], (image["height"], image["width"]), objects.get(image["id"], []), dataset, index
        )
        for index, image in enumerate(truth["images"])
    ]
    return ExportSplit(list(dataset.classes), list(dataset.category_ids), images)
