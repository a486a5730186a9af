"""Read and validate a COCO JSON file, so that invalid entries are reported before training."""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from featlift.data.formats.split_source import SplitSource
from featlift.data.image_io import ImageReadError, ImageSize, read_image_sizes
from featlift.data.masks import segmentation_to_rle
from featlift.data.problems import DataProblem, DatasetError

BOX_TOLERANCE = 1.0
"""Pixels a box may exceed its image by rounding; such boxes are clipped, larger excesses are reported."""


@dataclass
class CocoObject:
    """Object: class 1…K, box ``xyxy`` in pixels, area in pixels, and compressed run lengths if it has a mask."""

    label: int
    box: tuple[float, float, float, float]
    area: float
    is_crowd: bool
    rle: dict[str, Any] | None
    was_clipped: bool


@dataclass
class CocoImage:
    """Image: id in the JSON file, file, size (height, width) and objects."""

    image_id: int
    file_name: str
    path: Path
    size: ImageSize
    objects: list[CocoObject] = field(default_factory=list)


class CocoReader:
    """Reader of ``source``, a COCO JSON file or the document of another format, and its image folder.

    After `read_images`, ``problems`` lists every skipped entry.

    Raises:
        DatasetError: If the JSON file is missing, is not in COCO's format, or has no usable categories.
    """

    def __init__(self, source: SplitSource) -> None:
        self.annotation_file, self.image_folder = source.file, source.image_folder
        self.problems, self._source = list(source.problems), source
        self._document = self._load_json() if source.document is None else self._check_document(source.document)
        self.classes, self._category_to_label = self._read_categories()
        self.category_ids = list(self._category_to_label)

    def read_images(self) -> list[CocoImage]:
        """Valid images in the order of the JSON file, with their valid objects."""
        entries: dict[int, CocoImage] = {}
        skipped: set[int] = set()
        for index, image in enumerate(self._document["images"]):
            entry = self._read_image(index, image, entries)
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
            document = json.loads(self.annotation_file.read_text(encoding="utf-8-sig"))
        except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
            raise self._fatal_error("broken json", "the file", f"this is not JSON ({error})") from error
        return self._check_document(document)

    def _check_document(self, document: Any) -> dict[str, Any]:
        if not isinstance(document, dict):
            raise self._fatal_error(
                "broken json", "the file", f"a COCO JSON file holds an object, not a {type(document).__name__}"
            )
        for key in ("images", "annotations", "categories"):
            if not isinstance(document.get(key), list):
                keys = ", ".join(map(str, document)) or "nothing"
                raise self._fatal_error(
                    "broken json", f"'{key}'", f"a COCO JSON file has a list of this name; this file has {keys}"
                )
        for key in ("images", "categories"):
            if not document[key]:
                raise self._fatal_error("empty", f"'{key}'", "the list is empty: there is nothing to train on")
        return document

    def _read_categories(self) -> tuple[list[str], dict[int, int]]:
        """Class names in the order of their ids, and the map from id to label 1…K."""
        names: dict[int, str] = {}
        for index, category in enumerate(self._document["categories"]):
            if not isinstance(category, dict) or not isinstance(category.get("id"), int) or "name" not in category:
                raise self._fatal_error(
                    "category", f"categories[{index}]", "a category has an integer 'id' and a 'name'"
                )
            if category["id"] in names:
                raise self._fatal_error("category", f"category {category['id']}", "this id is used twice")
            names[category["id"]] = str(category["name"])
        ids = sorted(names)
        return [names[id_] for id_ in ids], {id_: label for label, id_ in enumerate(ids, start=1)}

    def _read_image(self, index: int, image: Any, known: dict[int, CocoImage]) -> CocoImage | None:
        missing = _missing_keys_message(image, ("id", "file_name", "width", "height"))
        if missing:
            return self._record_problem("image entry", f"images[{index}]", missing)
        location = f"image {image['id']} ({image['file_name']})"
        if not isinstance(image["id"], int):
            return self._record_problem("image entry", location, "its id is not an integer")
        if image["id"] in known:
            return self._record_problem(
                "duplicate id", location, f"this id is also that of {known[image['id']].file_name}"
            )
        if not all(isinstance(image[side], int) and image[side] > 0 for side in ("width", "height")):
            return self._record_problem(
                "image entry", location, f"its size is {image['width']}x{image['height']} pixels"
            )
        name = str(image["file_name"])
        entry = CocoImage(image["id"], name, self._source.find_image(name), (image["height"], image["width"]))
        return entry if self._has_valid_image(entry, location) else None

    def _has_valid_image(self, entry: CocoImage, location: str) -> bool:
        if not entry.path.is_file():
            self._record_problem("missing image", location, f"there is no file {entry.path}")
            return False
        try:
            sizes = read_image_sizes(entry.path)
        except ImageReadError as error:
            self._record_problem("broken image", location, str(error))
            return False
        if entry.size not in sizes:
            declared, actual = (f"{width}x{height}" for height, width in (entry.size, sizes[0]))
            self._record_problem(
                "image size mismatch", location, f"the json says {declared} pixels, the file has {actual}"
            )
            return False
        return True

    def _add_annotations(self, entries: dict[int, CocoImage], skipped: set[int]) -> None:
        """Validate each annotation and add it to its image; annotations of ``skipped`` images are ignored."""
        known_ids: set[int] = set()
        for index, annotation in enumerate(self._document["annotations"]):
            missing = _missing_keys_message(
                annotation, ("id", "image_id", "category_id", "bbox")
            ) or _non_integer_id_message(annotation)
            if missing:
                self._record_problem("object entry", f"annotations[{index}]", missing)
                continue
            if annotation["image_id"] in skipped:
                continue  # its image is reported already
            location = annotation.get("source") or f"annotation {annotation['id']} (image {annotation['image_id']})"
            error = next(self._annotation_errors(annotation, entries, known_ids), None)
            known_ids.add(annotation["id"])
            if error:
                self._record_problem(error[0], location, error[1])
                continue
            self._add_object(annotation, entries[annotation["image_id"]], location)

    def _annotation_errors(
        self, annotation: dict[str, Any], entries: dict[int, CocoImage], known_ids: set[int]
    ) -> Iterator[tuple[str, str]]:
        """Problems of the ids and the box of an annotation as (kind, message), most severe first."""
        if annotation["id"] in known_ids:
            yield "duplicate id", "this id is used twice"
        if annotation["image_id"] not in entries:
            yield "unknown image", f"there is no image with id {annotation['image_id']}"
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
        rle = None
        if annotation.get("segmentation"):
            try:
                rle = segmentation_to_rle(annotation["segmentation"], entry.size)
            except ValueError as error:
                self._record_problem("broken segmentation", location, str(error))
                return
        box, clipped = _clip_box(annotation["bbox"], entry.size)
        area = annotation.get("area")
        if not isinstance(area, (int, float)) or not math.isfinite(area) or area <= 0:
            area = (box[2] - box[0]) * (box[3] - box[1])
        label, crowd = self._category_to_label[annotation["category_id"]], bool(annotation.get("iscrowd", 0))
        entry.objects.append(CocoObject(label, box, float(area), crowd, rle, clipped))

    def _record_problem(self, kind: str, location: str, message: str) -> None:
        self.problems.append(DataProblem(self.annotation_file, location, kind, message))

    def _fatal_error(self, kind: str, location: str, message: str) -> DatasetError:
        return DatasetError([*self.problems, DataProblem(self.annotation_file, location, kind, message)])


def _missing_keys_message(entry: Any, keys: tuple[str, ...]) -> str:
    if not isinstance(entry, dict):
        return f"an entry is an object, not {entry!r}"
    missing = [key for key in keys if key not in entry]
    return f"it has no {', '.join(missing)}" if missing else ""


def _non_integer_id_message(annotation: dict[str, Any]) -> str:
    invalid = [key for key in ("id", "image_id", "category_id") if not isinstance(annotation[key], int)]
    return f"its {invalid[0]} is {annotation[invalid[0]]!r}, not an integer" if invalid else ""


def _box_errors(box: Any, size: ImageSize) -> Iterator[tuple[str, str]]:
    if not isinstance(box, list) or len(box) != 4:
        yield "broken box", f"its bbox is {box!r}; a box is four numbers: left, top, width, height"
        return
    if not all(isinstance(value, (int, float)) and math.isfinite(value) for value in box):
        yield "broken box", f"its bbox {box} has a value that is not a finite number"
        return
    left, top, width, height = box
    if width <= 0 or height <= 0:
        yield "broken box", f"its bbox {box} has no area (left, top, width, height)"
    excess = max(-left, -top, left + width - size[1], top + height - size[0])
    if excess > BOX_TOLERANCE:
        yield "box outside", f"its bbox {box} exceeds the image of {size[1]}x{size[0]} pixels by {excess:g} px"


def _clip_box(box: list[float], size: ImageSize) -> tuple[tuple[float, float, float, float], bool]:
    """Box ``xyxy`` clipped to the image, and whether it was changed."""
    left, top, right, bottom = box[0], box[1], box[0] + box[2], box[1] + box[3]
    clipped = (max(0.0, left), max(0.0, top), min(float(size[1]), right), min(float(size[0]), bottom))
    return clipped, clipped != (left, top, right, bottom)


def _format_ids(ids: dict[int, int]) -> str:
    listed = list(map(str, sorted(ids)))
    return ", ".join(listed[:12]) + (", …" if len(listed) > 12 else "")
