"""Pictures in a folder, objects in a COCO json."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch

from featlift.data.coco_reader import Entry, Reader
from featlift.data.dataset import Example, categories
from featlift.data.image_io import BrokenPicture, read_picture
from featlift.data.masks import decode
from featlift.data.problems import BrokenData, Problem, Report
from featlift.resolution import Target


class CocoPictures:
    """The pictures in ``folder`` with the objects that ``file``, a COCO json, says are in them.

    Category ids become labels 1…K in the order of the ids; polygons and run lengths become masks. Crowd regions stay,
    with ``iscrowd`` 1; `featlift.data.batches.Batches` leaves them out. Every entry of the json is checked against
    its picture's header before anything is trained, and ``report`` tells what was found and left out.

    Args:
        file: a COCO json of instances.
        folder: where its pictures are.
        skip_broken: leave out what is broken and list it in ``report``, instead of raising. Every picture is then
            read in
            full, because only so a truncated one is found.
        masks: give masks to every target if every object has one; without, pictures load faster.

    Raises:
        BrokenData: naming file and entry of everything that is wrong, or if nothing usable is left.
    """

    def __init__(
        self, file: str | PathLike[str], folder: str | PathLike[str], skip_broken: bool = False, masks: bool = True
    ) -> None:
        reader = Reader(Path(file), Path(folder))
        entries = reader.entries()
        if skip_broken:
            entries, unreadable = _readable(entries, reader.file)
            reader.problems.extend(unreadable)
        elif reader.problems:
            raise BrokenData(
                reader.problems, "Repair the data, or pass skip_broken=True (--skip-broken) to leave these out."
            )
        if not entries:
            raise BrokenData(reader.problems, f"{file}: no usable picture is left.")
        self.classes = reader.classes
        self._entries = entries
        self.has_masks = masks and _all_masked(entries)
        self.report = _report(reader, entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __getitem__(self, index: int) -> Example:
        """Picture ``index`` [3, H, W] float32 in 0…1 and its target; see `featlift.data.dataset`.

        Raises:
            BrokenPicture: naming the file, if it cannot be read.
        """
        entry = self._entries[index]
        return read_picture(entry.path, entry.size), self._target(entry)

    def name(self, index: int) -> str:
        """The picture's file name, as in the json."""
        return self._entries[index].file_name

    def size(self, index: int) -> tuple[int, int]:
        """Height and width in pixels."""
        return self._entries[index].size

    def coco(self) -> dict[str, Any]:
        """The ground truth as it is used here: our category ids 1…K, boxes inside their pictures, nothing that was
        left out.
        """
        images = [
            {"id": e.number, "file_name": e.file_name, "height": e.size[0], "width": e.size[1]} for e in self._entries
        ]
        annotations = []
        for entry in self._entries:
            for thing in entry.things:
                left, top, right, bottom = thing.box
                annotations.append({
                    "id": len(annotations) + 1, "image_id": entry.number, "category_id": thing.label,
                    "bbox": [left, top, right - left, bottom - top], "area": thing.area, "iscrowd": int(thing.crowd),
                })  # fmt: skip
                if self.has_masks and thing.runs:
                    annotations[-1]["segmentation"] = thing.runs
        return {"images": images, "annotations": annotations, "categories": categories(self.classes)}

    def _target(self, entry: Entry) -> Target:
        things = entry.things
        target = {
            "boxes": torch.tensor([thing.box for thing in things], dtype=torch.float32).reshape(-1, 4),
            "labels": torch.tensor([thing.label for thing in things], dtype=torch.int64),
            "iscrowd": torch.tensor([int(thing.crowd) for thing in things], dtype=torch.int64),
            "area": torch.tensor([thing.area for thing in things], dtype=torch.float32),
            "image_id": torch.tensor(entry.number),
        }
        if self.has_masks:
            empty = np.zeros((0, *entry.size), dtype=np.uint8)
            target["masks"] = torch.from_numpy(
                np.stack([decode(t.runs) for t in things if t.runs]) if things else empty
            )
        return target


def open_split(root: str | PathLike[str], split: str, skip_broken: bool = False, masks: bool = True) -> CocoPictures:
    """The ``split`` ("train" or "val") of the COCO folder ``root``, whichever of the usual layouts it has.

    These are ``annotations/instances_train2017.json`` with ``train2017/`` (any year, or none; also below
    ``images/``), and ``instances_train.json`` with ``train/``. For anything else, name the two: ``CocoPictures(file,
    folder)``.

    Raises:
        FileNotFoundError: saying what was looked for and what is there.
        BrokenData: see `CocoPictures`.
    """
    file, folder = find_split(Path(root), split)
    return CocoPictures(file, folder, skip_broken, masks)


def find_split(root: Path, split: str) -> tuple[Path, Path]:
    """The json and the picture folder of ``split`` in ``root``; errors as in `open_split`."""
    if not root.is_dir():
        raise FileNotFoundError(f"There is no folder {root}.")
    files = [*sorted(root.glob(f"annotations/instances_{split}*.json")), *sorted(root.glob(f"instances_{split}*.json"))]
    pairs = [(file, folder) for file in files if (folder := _folder(root, file))]
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


def _folder(root: Path, file: Path) -> Path | None:
    name = file.stem.removeprefix("instances_")
    return next((folder for folder in (root / name, root / "images" / name) if folder.is_dir()), None)


def _all_masked(entries: Sequence[Entry]) -> bool:
    runs = [thing.runs for entry in entries for thing in entry.things]
    return bool(runs) and all(runs)


def _readable(entries: Sequence[Entry], file: Path) -> tuple[list[Entry], list[Problem]]:
    """The entries whose pictures can be read to their end, and what is wrong with the others. Several are read at a
    time.
    """
    with ThreadPoolExecutor() as pool:
        errors = list(pool.map(_unreadable, entries))
    pairs = list(zip(entries, errors, strict=True))
    return [entry for entry, error in pairs if not error], [
        Problem(file, f"image {entry.number} ({entry.file_name})", "broken picture", error)
        for entry, error in pairs
        if error
    ]


def _unreadable(entry: Entry) -> str:
    try:
        read_picture(entry.path, entry.size)
    except BrokenPicture as error:
        return str(error)
    return ""


def _report(reader: Reader, entries: Sequence[Entry]) -> Report:
    things = [thing for entry in entries for thing in entry.things]
    masked = sum(thing.runs is not None for thing in things)
    note = f"{masked} of {len(things)} objects have a mask; masks are only used if all have one"
    return Report(
        file=reader.file,
        pictures=len(entries),
        objects=sum(not thing.crowd for thing in things),
        classes=len(reader.classes),
        empty=sum(not entry.things for entry in entries),
        crowds=sum(thing.crowd for thing in things),
        clipped=sum(thing.clipped for thing in things),
        notes=[note] if 0 < masked < len(things) else [],
        skipped=reader.problems,
    )
