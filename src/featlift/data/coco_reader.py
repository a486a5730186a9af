"""Reading and checking the entries of a COCO json: nothing gets past here that training would stumble over."""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from featlift.data.image_io import ImageReadError, ImageSize, read_image_sizes
from featlift.data.masks import segmentation_to_rle
from featlift.data.problems import DataProblem, DatasetError

BOX_TOLERANCE = 1.0
"""Pixels a box may reach out of its picture; it is clipped. Rounding does that much, a mistake does more."""


@dataclass
class CocoObject:
    """An object: its class 1…K, its box ``xyxy`` in pixels, its area in pixels, and its run lengths if it has a
    mask.
    """

    label: int
    box: tuple[float, float, float, float]
    area: float
    is_crowd: bool
    rle: dict[str, Any] | None
    was_clipped: bool


@dataclass
class CocoImage:
    """A picture of the json: its id there, its file, its size and its objects."""

    image_id: int
    file_name: str
    path: Path
    size: ImageSize
    objects: list[CocoObject] = field(default_factory=list)


class CocoReader:
    """Reads ``annotation_file`` (a COCO json) with the pictures in ``image_folder``.

    After `read_images`, ``problems`` has everything that was left out. What makes the whole file useless raises at once.

    Raises:
        BrokenData: if the json is missing, is no COCO json, or has no usable categories.
    """

    def __init__(self, annotation_file: Path, image_folder: Path) -> None:
        self.annotation_file, self.image_folder = annotation_file, image_folder
        self.problems: list[DataProblem] = []
        self._document = self._load_json()
        self.classes, self._category_to_label = self._read_categories()

    def read_images(self) -> list[CocoImage]:
        """The pictures that can be used, in the order of the json, with the objects that can be used."""
        entries: dict[int, CocoImage] = {}
        skipped: set[int] = set()
        for place, image in enumerate(self._document["images"]):
            entry = self._read_image(place, image, entries)
            if isinstance(entry, CocoImage):
                entries[entry.image_id] = entry
            elif isinstance(image, dict) and isinstance(image.get("id"), int):
                skipped.add(image["id"])
        self._add_annotations(entries, skipped - set(entries))
        return list(entries.values())

    def _load_json(self) -> dict[str, Any]:
        if not self.annotation_file.is_file():
            raise self._fatal_error("missing json", "the file", "there is no such file")
        try:
            document = json.loads(self.annotation_file.read_text(encoding="utf-8"))
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise self._fatal_error("broken json", "the file", f"this is not JSON ({error})") from error
        if not isinstance(document, dict):
            raise self._fatal_error(
                "broken json", "the file", f"a COCO json is an object, this is a {type(document).__name__}"
            )
        for key in ("images", "annotations", "categories"):
            if not isinstance(document.get(key), list):
                found = ", ".join(map(str, document)) or "nothing"
                raise self._fatal_error(
                    "broken json", f"'{key}'", f"a COCO json has a list of this name; here there is {found}"
                )
        for key in ("images", "categories"):
            if not document[key]:
                raise self._fatal_error("empty", f"'{key}'", "the list is empty: there is nothing to train on")
        return document

    def _read_categories(self) -> tuple[list[str], dict[int, int]]:
        """Class names in the order of their ids, and id → label 1…K."""
        names: dict[int, str] = {}
        for place, category in enumerate(self._document["categories"]):
            if not isinstance(category, dict) or not isinstance(category.get("id"), int) or "name" not in category:
                raise self._fatal_error(
                    "category", f"categories[{place}]", "a category has a whole number 'id' and a 'name'"
                )
            if category["id"] in names:
                raise self._fatal_error("category", f"category {category['id']}", "this id is used twice")
            names[category["id"]] = str(category["name"])
        order = sorted(names)
        return [names[number] for number in order], {number: label for label, number in enumerate(order, start=1)}

    def _read_image(self, index: int, image: Any, known: dict[int, CocoImage]) -> CocoImage | None:
        missing = _missing_keys_message(image, ("id", "file_name", "width", "height"))
        if missing:
            return self._record_problem("picture entry", f"images[{index}]", missing)
        where = f"image {image['id']} ({image['file_name']})"
        if not isinstance(image["id"], int):
            return self._record_problem("picture entry", where, "its id is not a whole number")
        if image["id"] in known:
            return self._record_problem(
                "duplicate id", where, f"this id is also that of {known[image['id']].file_name}"
            )
        if not all(isinstance(image[side], int) and image[side] > 0 for side in ("width", "height")):
            return self._record_problem(
                "picture entry", where, f"its size is {image['width']}x{image['height']} pixels"
            )
        name = str(image["file_name"])
        entry = CocoImage(image["id"], name, self.image_folder / name, (image["height"], image["width"]))
        return entry if self._has_valid_image(entry, where) else None

    def _has_valid_image(self, entry: CocoImage, location: str) -> bool:
        if not entry.path.is_file():
            self._record_problem("missing picture", location, f"there is no file {entry.path}")
            return False
        try:
            sizes = read_image_sizes(entry.path)
        except ImageReadError as error:
            self._record_problem("broken picture", location, str(error))
            return False
        if entry.size not in sizes:
            told, is_ = (f"{width}x{height}" for height, width in (entry.size, sizes[0]))
            self._record_problem("other size", location, f"the json says {told} pixels, the file has {is_}")
            return False
        return True

    def _add_annotations(self, entries: dict[int, CocoImage], skipped: set[int]) -> None:
        """Put each annotation to its picture."""
        seen: set[int] = set()
        for place, annotation in enumerate(self._document["annotations"]):
            missing = _missing_keys_message(
                annotation, ("id", "image_id", "category_id", "bbox")
            ) or _non_integer_id_message(annotation)
            if missing:
                self._record_problem("object entry", f"annotations[{place}]", missing)
                continue
            if annotation["image_id"] in skipped:
                continue  # its picture is among the problems already
            where = f"annotation {annotation['id']} (image {annotation['image_id']})"
            wrong = next(self._annotation_errors(annotation, entries, seen), None)
            seen.add(annotation["id"])
            if wrong:
                self._record_problem(wrong[0], where, wrong[1])
                continue
            self._add_object(annotation, entries[annotation["image_id"]], where)

    def _annotation_errors(
        self, annotation: dict[str, Any], entries: dict[int, CocoImage], known_ids: set[int]
    ) -> Iterator[tuple[str, str]]:
        """What is wrong with the ids and the box of an annotation: kind and words, the gravest first."""
        if annotation["id"] in known_ids:
            yield "duplicate id", "this id is used twice"
        if annotation["image_id"] not in entries:
            yield "unknown picture", f"there is no image with id {annotation['image_id']}"
        elif annotation["category_id"] not in self._category_to_label:
            yield (
                "unknown category",
                f"there is no category {annotation['category_id']}; known: {_format_ids(self._category_to_label)}",
            )
        else:
            yield from _box_errors(annotation["bbox"], entries[annotation["image_id"]].size)
        if annotation.get("iscrowd", 0) not in (0, 1):
            yield "object entry", f"iscrowd is {annotation['iscrowd']!r}; it is 0 or 1"

    def _add_object(self, annotation: dict[str, Any], entry: CocoImage, location: str) -> None:
        runs = None
        if annotation.get("segmentation"):
            try:
                runs = segmentation_to_rle(annotation["segmentation"], entry.size)
            except ValueError as error:
                self._record_problem("broken segmentation", location, str(error))
                return
        box, clipped = _clip_box(annotation["bbox"], entry.size)
        area = annotation.get("area")
        if not isinstance(area, (int, float)) or not math.isfinite(area) or area <= 0:
            area = (box[2] - box[0]) * (box[3] - box[1])
        label, crowd = self._category_to_label[annotation["category_id"]], bool(annotation.get("iscrowd", 0))
        entry.objects.append(CocoObject(label, box, float(area), crowd, runs, clipped))

    def _record_problem(self, kind: str, location: str, message: str) -> None:
        self.problems.append(DataProblem(self.annotation_file, location, kind, message))

    def _fatal_error(self, kind: str, location: str, message: str) -> DatasetError:
        return DatasetError([DataProblem(self.annotation_file, location, kind, message)])


def _missing_keys_message(entry: Any, keys: tuple[str, ...]) -> str:
    if not isinstance(entry, dict):
        return f"this is no entry but {entry!r}"
    missing = [key for key in keys if key not in entry]
    return f"it has no {', '.join(missing)}" if missing else ""


def _non_integer_id_message(annotation: dict[str, Any]) -> str:
    wrong = [key for key in ("id", "image_id", "category_id") if not isinstance(annotation[key], int)]
    return f"its {wrong[0]} is {annotation[wrong[0]]!r}, not a whole number" if wrong else ""


def _box_errors(box: Any, size: ImageSize) -> Iterator[tuple[str, str]]:
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
    if beyond > BOX_TOLERANCE:
        yield "box outside", f"its bbox {box} reaches {beyond:g} px out of the picture of {size[1]}x{size[0]} pixels"


def _clip_box(box: list[float], size: ImageSize) -> tuple[tuple[float, float, float, float], bool]:
    """``xyxy`` inside the picture, and whether anything was cut off."""
    left, top, right, bottom = box[0], box[1], box[0] + box[2], box[1] + box[3]
    inside = (max(0.0, left), max(0.0, top), min(float(size[1]), right), min(float(size[0]), bottom))
    return inside, inside != (left, top, right, bottom)


def _format_ids(ids: dict[int, int]) -> str:
    listed = list(map(str, sorted(ids)))
    return ", ".join(listed[:12]) + (", …" if len(listed) > 12 else "")
