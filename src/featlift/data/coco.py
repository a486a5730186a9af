"""Pictures in a folder, objects in a COCO json."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch

from featlift.data.coco_reader import CocoImage, CocoReader
from featlift.data.dataset import Sample, coco_categories
from featlift.data.image_io import ImageReadError, read_image
from featlift.data.masks import rle_to_mask
from featlift.data.problems import DataProblem, DatasetError, DatasetReport
from featlift.resolution import Target


class CocoDataset:
    """The pictures in ``image_folder`` with the objects that ``annotation_file``, a COCO json, says are in them.

    Category ids become labels 1…K in the order of the ids; polygons and run lengths become masks. Crowd regions stay,
    with ``iscrowd`` 1; `featlift.data.batches.ResumableDataLoader` leaves them out. Every entry of the json is checked against
    its picture's header before anything is trained, and ``report`` tells what was found and left out.

    Args:
        annotation_file: a COCO json of instances.
        image_folder: where its pictures are.
        skip_broken: leave out what is broken and list it in ``report``, instead of raising. Every picture is then
            read in
            full, because only so a truncated one is found.
        load_masks: give masks to every target if every object has one; without, pictures load faster.

    Raises:
        BrokenData: naming file and entry of everything that is wrong, or if nothing usable is left.
    """

    def __init__(
        self,
        annotation_file: str | PathLike[str],
        image_folder: str | PathLike[str],
        skip_broken: bool = False,
        load_masks: bool = True,
    ) -> None:
        reader = CocoReader(Path(annotation_file), Path(image_folder))
        entries = reader.read_images()
        if skip_broken:
            entries, unreadable = _drop_unreadable(entries, reader.annotation_file)
            reader.problems.extend(unreadable)
        elif reader.problems:
            raise DatasetError(
                reader.problems, "Repair the data, or pass skip_broken=True (--skip-broken) to leave these out."
            )
        if not entries:
            raise DatasetError(reader.problems, f"{annotation_file}: no usable picture is left.")
        self.classes = reader.classes
        self._entries = entries
        self.has_masks = load_masks and _all_have_masks(entries)
        self.report = _build_report(reader, entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __getitem__(self, index: int) -> Sample:
        """Picture ``index`` [3, H, W] float32 in 0…1 and its target; see `featlift.data.dataset`.

        Raises:
            BrokenPicture: naming the file, if it cannot be read.
        """
        entry = self._entries[index]
        return read_image(entry.path, entry.size), self._target(entry)

    def image_name(self, index: int) -> str:
        """The picture's file name, as in the json."""
        return self._entries[index].file_name

    def image_size(self, index: int) -> tuple[int, int]:
        """Height and width in pixels."""
        return self._entries[index].size

    def coco(self) -> dict[str, Any]:
        """The ground truth as it is used here: our category ids 1…K, boxes inside their pictures, nothing that was
        left out.
        """
        images = [
            {"id": e.image_id, "file_name": e.file_name, "height": e.size[0], "width": e.size[1]} for e in self._entries
        ]
        annotations = []
        for entry in self._entries:
            for thing in entry.objects:
                left, top, right, bottom = thing.box
                annotations.append({
                    "id": len(annotations) + 1, "image_id": entry.image_id, "category_id": thing.label,
                    "bbox": [left, top, right - left, bottom - top], "area": thing.area, "iscrowd": int(thing.is_crowd),
                })  # fmt: skip
                if self.has_masks and thing.rle:
                    annotations[-1]["segmentation"] = thing.rle
        return {"images": images, "annotations": annotations, "categories": coco_categories(self.classes)}

    def _target(self, entry: CocoImage) -> Target:
        things = entry.objects
        target = {
            "boxes": torch.tensor([thing.box for thing in things], dtype=torch.float32).reshape(-1, 4),
            "labels": torch.tensor([thing.label for thing in things], dtype=torch.int64),
            "iscrowd": torch.tensor([int(thing.is_crowd) for thing in things], dtype=torch.int64),
            "area": torch.tensor([thing.area for thing in things], dtype=torch.float32),
            "image_id": torch.tensor(entry.image_id),
        }
        if self.has_masks:
            empty = np.zeros((0, *entry.size), dtype=np.uint8)
            target["masks"] = torch.from_numpy(
                np.stack([rle_to_mask(t.rle) for t in things if t.rle]) if things else empty
            )
        return target


def open_coco_split(
    root: str | PathLike[str], split: str, skip_broken: bool = False, load_masks: bool = True
) -> CocoDataset:
    """The ``split`` ("train" or "val") of the COCO folder ``root``, whichever of the usual layouts it has.

    These are ``annotations/instances_train2017.json`` with ``train2017/`` (any year, or none; also below
    ``images/``), and ``instances_train.json`` with ``train/``. For anything else, name the two: ``CocoPictures(file,
    folder)``.

    Raises:
        FileNotFoundError: saying what was looked for and what is there.
        BrokenData: see `CocoPictures`.
    """
    file, folder = find_coco_split(Path(root), split)
    return CocoDataset(file, folder, skip_broken, load_masks)


def find_coco_split(root: Path, split: str) -> tuple[Path, Path]:
    """The json and the picture folder of ``split`` in ``root``; errors as in `open_split`."""
    if not root.is_dir():
        raise FileNotFoundError(f"There is no folder {root}.")
    files = [*sorted(root.glob(f"annotations/instances_{split}*.json")), *sorted(root.glob(f"instances_{split}*.json"))]
    pairs = [(file, folder) for file in files if (folder := _image_folder(root, file))]
    if len(pairs) == 1:
        return pairs[0]
    if pairs:
        listed = ", ".join(str(file.relative_to(root)) for file, _ in pairs)
        raise FileNotFoundError(f"{root} has several sets called {split}: {listed}. Name the json and the folder.")
    present = ", ".join(sorted(path.name for path in root.iterdir())[:12]) or "nothing"
    raise FileNotFoundError(
        f"No split '{split}' in {root}. Looked for annotations/instances_{split}*.json or instances_{split}.json, and "
        f"for a folder of pictures of the same name ({split}…/ or images/{split}…/). There is: {present}. "
        "If your data have other names, give the json and the folder."
    )


def _image_folder(root: Path, file: Path) -> Path | None:
    name = file.stem.removeprefix("instances_")
    return next((folder for folder in (root / name, root / "images" / name) if folder.is_dir()), None)


def _all_have_masks(entries: Sequence[CocoImage]) -> bool:
    runs = [thing.rle for entry in entries for thing in entry.objects]
    return bool(runs) and all(runs)


def _drop_unreadable(entries: Sequence[CocoImage], file: Path) -> tuple[list[CocoImage], list[DataProblem]]:
    """The entries whose pictures can be read to their end, and what is wrong with the others. Several are read at a
    time.
    """
    with ThreadPoolExecutor() as pool:
        errors = list(pool.map(_read_error, entries))
    pairs = list(zip(entries, errors, strict=True))
    return [entry for entry, error in pairs if not error], [
        DataProblem(file, f"image {entry.image_id} ({entry.file_name})", "broken picture", error)
        for entry, error in pairs
        if error
    ]


def _read_error(entry: CocoImage) -> str:
    try:
        read_image(entry.path, entry.size)
    except ImageReadError as error:
        return str(error)
    return ""


def _build_report(reader: CocoReader, entries: Sequence[CocoImage]) -> DatasetReport:
    things = [thing for entry in entries for thing in entry.objects]
    masked = sum(thing.rle is not None for thing in things)
    note = f"{masked} of {len(things)} objects have a mask; masks are only used if all have one"
    return DatasetReport(
        file=reader.annotation_file,
        num_images=len(entries),
        num_objects=sum(not thing.is_crowd for thing in things),
        num_classes=len(reader.classes),
        num_empty_images=sum(not entry.objects for entry in entries),
        num_crowds=sum(thing.is_crowd for thing in things),
        num_clipped_boxes=sum(thing.was_clipped for thing in things),
        notes=[note] if 0 < masked < len(things) else [],
        problems=reader.problems,
    )
