"""Reading and checking the entries of a COCO json: nothing gets past here that training would stumble over."""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from featlift.data.image_io import BrokenPicture, Size, picture_sizes
from featlift.data.masks import run_lengths
from featlift.data.problems import BrokenData, Problem

TOLERANCE = 1.0
"""Pixels a box may reach out of its picture; it is clipped. Rounding does that much, a mistake does more."""


@dataclass
class Thing:
    """An object: its class 1…K, its box ``xyxy`` in pixels, its area in pixels, and its run lengths if it has a
    mask.
    """

    label: int
    box: tuple[float, float, float, float]
    area: float
    crowd: bool
    runs: dict[str, Any] | None
    clipped: bool


@dataclass
class Entry:
    """A picture of the json: its id there, its file, its size and its objects."""

    number: int
    file_name: str
    path: Path
    size: Size
    things: list[Thing] = field(default_factory=list)


class Reader:
    """Reads ``file`` (a COCO json) with the pictures in ``folder``.

    After `entries`, ``problems`` has everything that was left out. What makes the whole file useless raises at once.

    Raises:
        BrokenData: if the json is missing, is no COCO json, or has no usable categories.
    """

    def __init__(self, file: Path, folder: Path) -> None:
        self.file, self.folder = file, folder
        self.problems: list[Problem] = []
        self._document = self._load()
        self.classes, self._labels = self._categories()

    def entries(self) -> list[Entry]:
        """The pictures that can be used, in the order of the json, with the objects that can be used."""
        entries: dict[int, Entry] = {}
        skipped: set[int] = set()
        for place, image in enumerate(self._document["images"]):
            entry = self._entry(place, image, entries)
            if isinstance(entry, Entry):
                entries[entry.number] = entry
            elif isinstance(image, dict) and isinstance(image.get("id"), int):
                skipped.add(image["id"])
        self._fill(entries, skipped - set(entries))
        return list(entries.values())

    def _load(self) -> dict[str, Any]:
        if not self.file.is_file():
            raise self._fatal("missing json", "the file", "there is no such file")
        try:
            document = json.loads(self.file.read_text(encoding="utf-8"))
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise self._fatal("broken json", "the file", f"this is not JSON ({error})") from error
        if not isinstance(document, dict):
            raise self._fatal(
                "broken json", "the file", f"a COCO json is an object, this is a {type(document).__name__}"
            )
        for key in ("images", "annotations", "categories"):
            if not isinstance(document.get(key), list):
                found = ", ".join(map(str, document)) or "nothing"
                raise self._fatal(
                    "broken json", f"'{key}'", f"a COCO json has a list of this name; here there is {found}"
                )
        for key in ("images", "categories"):
            if not document[key]:
                raise self._fatal("empty", f"'{key}'", "the list is empty: there is nothing to train on")
        return document

    def _categories(self) -> tuple[list[str], dict[int, int]]:
        """Class names in the order of their ids, and id → label 1…K."""
        names: dict[int, str] = {}
        for place, category in enumerate(self._document["categories"]):
            if not isinstance(category, dict) or not isinstance(category.get("id"), int) or "name" not in category:
                raise self._fatal("category", f"categories[{place}]", "a category has a whole number 'id' and a 'name'")
            if category["id"] in names:
                raise self._fatal("category", f"category {category['id']}", "this id is used twice")
            names[category["id"]] = str(category["name"])
        order = sorted(names)
        return [names[number] for number in order], {number: label for label, number in enumerate(order, start=1)}

    def _entry(self, place: int, image: Any, known: dict[int, Entry]) -> Entry | None:
        missing = _missing(image, ("id", "file_name", "width", "height"))
        if missing:
            return self._leave("picture entry", f"images[{place}]", missing)
        where = f"image {image['id']} ({image['file_name']})"
        if not isinstance(image["id"], int):
            return self._leave("picture entry", where, "its id is not a whole number")
        if image["id"] in known:
            return self._leave("duplicate id", where, f"this id is also that of {known[image['id']].file_name}")
        if not all(isinstance(image[side], int) and image[side] > 0 for side in ("width", "height")):
            return self._leave("picture entry", where, f"its size is {image['width']}x{image['height']} pixels")
        name = str(image["file_name"])
        entry = Entry(image["id"], name, self.folder / name, (image["height"], image["width"]))
        return entry if self._has_picture(entry, where) else None

    def _has_picture(self, entry: Entry, where: str) -> bool:
        if not entry.path.is_file():
            self._leave("missing picture", where, f"there is no file {entry.path}")
            return False
        try:
            sizes = picture_sizes(entry.path)
        except BrokenPicture as error:
            self._leave("broken picture", where, str(error))
            return False
        if entry.size not in sizes:
            told, is_ = (f"{width}x{height}" for height, width in (entry.size, sizes[0]))
            self._leave("other size", where, f"the json says {told} pixels, the file has {is_}")
            return False
        return True

    def _fill(self, entries: dict[int, Entry], skipped: set[int]) -> None:
        """Put each annotation to its picture."""
        seen: set[int] = set()
        for place, annotation in enumerate(self._document["annotations"]):
            missing = _missing(annotation, ("id", "image_id", "category_id", "bbox")) or _not_whole(annotation)
            if missing:
                self._leave("object entry", f"annotations[{place}]", missing)
                continue
            if annotation["image_id"] in skipped:
                continue  # its picture is among the problems already
            where = f"annotation {annotation['id']} (image {annotation['image_id']})"
            wrong = next(self._wrong(annotation, entries, seen), None)
            seen.add(annotation["id"])
            if wrong:
                self._leave(wrong[0], where, wrong[1])
                continue
            self._add(annotation, entries[annotation["image_id"]], where)

    def _wrong(
        self, annotation: dict[str, Any], entries: dict[int, Entry], seen: set[int]
    ) -> Iterator[tuple[str, str]]:
        """What is wrong with the ids and the box of an annotation: kind and words, the gravest first."""
        if annotation["id"] in seen:
            yield "duplicate id", "this id is used twice"
        if annotation["image_id"] not in entries:
            yield "unknown picture", f"there is no image with id {annotation['image_id']}"
        elif annotation["category_id"] not in self._labels:
            yield "unknown category", f"there is no category {annotation['category_id']}; known: {_some(self._labels)}"
        else:
            yield from _wrong_box(annotation["bbox"], entries[annotation["image_id"]].size)
        if annotation.get("iscrowd", 0) not in (0, 1):
            yield "object entry", f"iscrowd is {annotation['iscrowd']!r}; it is 0 or 1"

    def _add(self, annotation: dict[str, Any], entry: Entry, where: str) -> None:
        runs = None
        if annotation.get("segmentation"):
            try:
                runs = run_lengths(annotation["segmentation"], entry.size)
            except ValueError as error:
                self._leave("broken segmentation", where, str(error))
                return
        box, clipped = _clipped(annotation["bbox"], entry.size)
        area = annotation.get("area")
        if not isinstance(area, (int, float)) or not math.isfinite(area) or area <= 0:
            area = (box[2] - box[0]) * (box[3] - box[1])
        label, crowd = self._labels[annotation["category_id"]], bool(annotation.get("iscrowd", 0))
        entry.things.append(Thing(label, box, float(area), crowd, runs, clipped))

    def _leave(self, kind: str, entry: str, what: str) -> None:
        self.problems.append(Problem(self.file, entry, kind, what))

    def _fatal(self, kind: str, entry: str, what: str) -> BrokenData:
        return BrokenData([Problem(self.file, entry, kind, what)])


def _missing(entry: Any, keys: tuple[str, ...]) -> str:
    if not isinstance(entry, dict):
        return f"this is no entry but {entry!r}"
    missing = [key for key in keys if key not in entry]
    return f"it has no {', '.join(missing)}" if missing else ""


def _not_whole(annotation: dict[str, Any]) -> str:
    wrong = [key for key in ("id", "image_id", "category_id") if not isinstance(annotation[key], int)]
    return f"its {wrong[0]} is {annotation[wrong[0]]!r}, not a whole number" if wrong else ""


def _wrong_box(box: Any, size: Size) -> Iterator[tuple[str, str]]:
    if not isinstance(box, list) or len(box) != 4:
        yield "broken box", f"its bbox is {box!r}; it takes four numbers: left, top, width, height"
        return
    if not all(isinstance(value, (int, float)) and math.isfinite(value) for value in box):
        yield "broken box", f"its bbox {box} has something that is not a finite number"
        return
    left, top, width, height = box
    if width <= 0 or height <= 0:
        yield "broken box", f"its bbox {box} has no area (left, top, width, height)"
    beyond = max(-left, -top, left + width - size[1], top + height - size[0])
    if beyond > TOLERANCE:
        yield "box outside", f"its bbox {box} reaches {beyond:g} px out of the picture of {size[1]}x{size[0]} pixels"


def _clipped(box: list[float], size: Size) -> tuple[tuple[float, float, float, float], bool]:
    """``xyxy`` inside the picture, and whether anything was cut off."""
    left, top, right, bottom = box[0], box[1], box[0] + box[2], box[1] + box[3]
    inside = (max(0.0, left), max(0.0, top), min(float(size[1]), right), min(float(size[0]), bottom))
    return inside, inside != (left, top, right, bottom)


def _some(numbers: dict[int, int]) -> str:
    listed = list(map(str, sorted(numbers)))
    return ", ".join(listed[:12]) + (", …" if len(listed) > 12 else "")
