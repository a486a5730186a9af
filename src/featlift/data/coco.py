"""COCO datasets: a folder of images and a JSON file of annotations."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch

from featlift.data.coco_reader import CocoImage, CocoReader
from featlift.data.coco_report import build_coco_report
from featlift.data.dataset import Sample, coco_categories
from featlift.data.formats.split_source import SplitSource
from featlift.data.image_io import MAX_PIXELS, ImageReadError, read_image, read_reduced_image
from featlift.data.masks import rle_to_mask
from featlift.data.problems import LEFT_OUT, DataProblem, DatasetError
from featlift.features import Target


class CocoDataset:
    """Images of ``image_folder`` with the objects of ``annotation_file``.

    Category ids become labels 1…K in the order of the ids, and ``category_ids`` keeps them; polygons and run lengths
    become masks. Crowd regions and ignored regions (``"ignore": 1``) are kept with ``iscrowd`` 1; the loader
    `featlift.data.batches.ResumableDataLoader` removes them. An ignored region of every class has label 0.
    Every annotation is validated, also against the header of its image file; ``report`` counts the entries and lists the
    skipped ones.

    Args:
        annotation_file: COCO JSON file of instances.
        image_folder: Folder of the images.
        skip_broken: Go on without what is broken and list it in ``report`` instead of raising: a stray polygon is dropped,
            a box is clipped, an object that cannot be used becomes an ignored region, and an image is left out if the
            region of one of its objects is unknown. Every image is then decoded in full, which detects truncated files.
        load_masks: Add masks to the targets if every object has one; images load faster without.
        max_pixels: Maximum number of pixels of an image.

    Raises:
        DatasetError: naming the file and entry of every problem, or if no usable image remains.
    """

    def __init__(
        self,
        annotation_file: str | PathLike[str],
        image_folder: str | PathLike[str],
        skip_broken: bool = False,
        load_masks: bool = True,
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        source = SplitSource("coco", Path(annotation_file), Path(image_folder))
        self._load(source, skip_broken, load_masks, max_pixels)

    @classmethod
    def from_source(
        cls, source: SplitSource, skip_broken: bool = False, load_masks: bool = True, max_pixels: int = MAX_PIXELS
    ) -> "CocoDataset":
        """Dataset of a split in another format; ``layout`` is its name. Arguments and errors are those of the constructor."""
        dataset = cls.__new__(cls)
        dataset._load(source, skip_broken, load_masks, max_pixels)
        return dataset

    def _load(self, source: SplitSource, skip_broken: bool, load_masks: bool, max_pixels: int) -> None:
        reader = CocoReader(source, max_pixels)
        entries = reader.read_images()
        if skip_broken:
            entries, unreadable = _drop_unreadable(entries, reader.annotation_file, max_pixels)
            reader.problems.extend(unreadable)
        elif reader.problems:
            raise DatasetError(
                reader.problems, "Repair the data, or pass skip_broken=True (--skip-broken) to skip these entries."
            )
        if not entries:
            raise DatasetError(reader.problems, f"{source.file}: no usable image is left.")
        self.layout = source.layout
        self.classes, self.category_ids = reader.classes, reader.category_ids
        self._entries, self.max_pixels = entries, max_pixels
        self.has_masks = load_masks and _all_have_masks(entries)
        self.report = build_coco_report(reader, entries, source.notes)

    def __len__(self) -> int:
        return len(self._entries)

    def __getitem__(self, index: int) -> Sample:
        """Image ``index`` [3, H, W] float32 in 0…1 and its target; see `featlift.data.dataset`.

        Raises:
            ImageReadError: naming the file, if it cannot be read.
        """
        entry = self._entries[index]
        return read_image(entry.path, entry.size, self.max_pixels), self._target(entry)

    def read_reduced(self, index: int, min_size: tuple[int, int]) -> Sample:
        """As ``dataset[index]``, by `featlift.data.image_io.read_reduced_image`; the target is that of the full image."""
        entry = self._entries[index]
        return read_reduced_image(entry.path, min_size, self.max_pixels, entry.size), self._target(entry)

    def image_name(self, index: int) -> str:
        """File name of the image in the JSON file."""
        return self._entries[index].file_name

    def image_path(self, index: int) -> Path:
        """Path of the image file."""
        return self._entries[index].path

    def image_size(self, index: int) -> tuple[int, int]:
        """Height and width in pixels."""
        return self._entries[index].size

    def coco(self, every_mask: bool = False) -> dict[str, Any]:
        """Ground truth as a COCO dictionary: ids of the JSON file, boxes clipped to their images, skipped entries removed.

        Without ``every_mask`` it has masks only if every object has one.
        """
        images = [
            {"id": e.image_id, "file_name": e.file_name, "height": e.size[0], "width": e.size[1]} for e in self._entries
        ]
        annotations: list[dict[str, Any]] = []
        for entry in self._entries:
            for instance in entry.objects:
                left, top, right, bottom = instance.box
                for category_id in [self.category_ids[instance.label - 1]] if instance.label else self.category_ids:
                    annotations.append({
                        "id": len(annotations) + 1, "image_id": entry.image_id, "category_id": category_id,
                        "bbox": [left, top, right - left, bottom - top], "area": instance.area,
                        "iscrowd": int(instance.is_crowd or instance.is_ignored),
                    })  # fmt: skip
                    if instance.is_ignored:
                        annotations[-1]["ignore"] = 1
                    if (self.has_masks or every_mask) and instance.rle:
                        annotations[-1]["segmentation"] = instance.rle
        return {
            "images": images,
            "annotations": annotations,
            "categories": coco_categories(self.classes, self.category_ids),
        }

    def _target(self, entry: CocoImage) -> Target:
        objects = entry.objects
        target = {
            "boxes": torch.tensor([instance.box for instance in objects], dtype=torch.float32).reshape(-1, 4),
            "labels": torch.tensor([instance.label for instance in objects], dtype=torch.int64),
            "iscrowd": torch.tensor(
                [int(instance.is_crowd or instance.is_ignored) for instance in objects], dtype=torch.int64
            ),
            "area": torch.tensor([instance.area for instance in objects], dtype=torch.float32),
            "image_id": torch.tensor(entry.image_id),
        }
        if any(instance.is_ignored for instance in objects):
            target["ignore"] = torch.tensor([int(instance.is_ignored) for instance in objects])
        if self.has_masks:
            empty = np.zeros((0, *entry.size), dtype=np.uint8)
            target["masks"] = torch.from_numpy(
                np.stack([rle_to_mask(instance.rle) for instance in objects if instance.rle]) if objects else empty
            )
        return target


def open_coco_split(
    root: str | PathLike[str],
    split: str,
    skip_broken: bool = False,
    load_masks: bool = True,
    max_pixels: int = MAX_PIXELS,
) -> CocoDataset:
    """Open the ``split`` ("train", "val", or "test-dev", which has no annotations) of the COCO folder ``root`` in one of the usual layouts.

    The layouts are ``annotations/instances_train2017.json`` with ``train2017/`` (any year or none; also below
    ``images/``), and ``instances_train.json`` with ``train/``. For other layouts use ``CocoDataset(annotation_file,
    image_folder)``.

    Raises:
        FileNotFoundError: naming the expected and the present files.
        DatasetError: see `CocoDataset`.
    """
    annotation_file, image_folder = find_coco_split(Path(root), split)
    return CocoDataset(annotation_file, image_folder, skip_broken, load_masks, max_pixels)


def find_coco_split(root: Path, split: str) -> tuple[Path, Path]:
    """Annotation file and image folder of ``split`` in ``root``; raises as `open_coco_split`."""
    if not root.is_dir():
        raise FileNotFoundError(f"There is no folder {root}.")
    files = [
        file
        for pattern in (f"instances_{split}*.json", f"image_info_{split}*.json")
        for file in [*sorted(root.glob(f"annotations/{pattern}")), *sorted(root.glob(pattern))]
    ]
    pairs = [(file, folder) for file in files if (folder := _image_folder(root, file))]
    if len(pairs) == 1:
        return pairs[0]
    if pairs:
        listed = ", ".join(str(file.relative_to(root)) for file, _ in pairs)
        raise FileNotFoundError(
            f"{root} has several splits called {split}: {listed}. Give one of them as --data FILE.json."
        )
    present = ", ".join(sorted(path.name for path in root.iterdir())[:12]) or "nothing"
    raise FileNotFoundError(
        f"No split '{split}' in {root}. Expected annotations/instances_{split}*.json or instances_{split}.json, and "
        f"an image folder of the same name ({split}…/ or images/{split}…/). Present: {present}."
    )


def _image_folder(root: Path, file: Path) -> Path | None:
    name = file.stem.removeprefix("instances_").removeprefix("image_info_")
    names = (name, name.replace("test-dev", "test"))  # test-dev2017 is a part of the images of test2017
    return next((path for name in names for path in (root / name, root / "images" / name) if path.is_dir()), None)


def _all_have_masks(entries: Sequence[CocoImage]) -> bool:
    rles = [instance.rle for entry in entries for instance in entry.objects]
    return bool(rles) and all(rles)


def _drop_unreadable(
    entries: Sequence[CocoImage], file: Path, max_pixels: int
) -> tuple[list[CocoImage], list[DataProblem]]:
    """Entries whose images decode in full, and the problems of the others; images are read in parallel."""
    with ThreadPoolExecutor() as pool:
        errors = list(pool.map(lambda entry: _read_error(entry, max_pixels), entries))
    pairs = list(zip(entries, errors, strict=True))
    return [entry for entry, error in pairs if not error], [
        DataProblem(file, f"image {entry.image_id} ({entry.file_name})", "broken image", error, LEFT_OUT)
        for entry, error in pairs
        if error
    ]


def _read_error(entry: CocoImage, max_pixels: int) -> str:
    try:
        read_image(entry.path, entry.size, max_pixels)
    except ImageReadError as error:
        return str(error)
    return ""
