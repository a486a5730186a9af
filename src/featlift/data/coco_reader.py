"""Read and validate a COCO JSON file, so that invalid entries are reported before training."""

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from featlift.data.coco_boxes import area_is_of_corners, is_finite_number, is_normalized
from featlift.data.coco_document import check_coco_document, load_coco_document, read_categories, whole_number
from featlift.data.coco_objects import CocoObject, ParsedObject, finish_masks, parse_object
from featlift.data.formats.split_source import SplitSource
from featlift.data.image_io import MAX_PIXELS, ImageReadError, ImageSize, read_image_sizes
from featlift.data.problems import KEPT, LEFT_OUT, DataProblem, DatasetError, Effect

MISREAD_FRACTION = 0.5
"""Fraction of normalized boxes, or of corners, from which the whole file is refused, also by ``skip_broken``."""


@dataclass
class CocoImage:
    """Image: id in the JSON file, file (a path, or an object with ``open("rb")``), size (height, width) and objects."""

    image_id: int
    file_name: str
    path: Any
    size: ImageSize
    objects: list[CocoObject] = field(default_factory=list)


class CocoReader:
    """Reader of ``source``, a COCO JSON file or the document of another format, and its images.

    After `read_images`, ``problems`` lists every invalid entry and what became of it.

    Raises:
        DatasetError: If the JSON file is missing, is not in COCO's format, or has no usable categories.
    """

    def __init__(self, source: SplitSource, max_pixels: int = MAX_PIXELS) -> None:
        self.annotation_file, self.max_pixels = source.file, max_pixels
        self.problems, self._source = list(source.problems), source
        try:
            self.document = _load_document(source)
            categories = read_categories(source.file, self.document)
        except DatasetError as error:
            raise DatasetError([*source.problems, *error.problems]) from error
        self.classes, self.category_ids = list(categories.values()), list(categories)
        self._labels = {id_: label for label, id_ in enumerate(categories, start=1)}

    def read_images(self) -> list[CocoImage]:
        """Valid images in the order of the JSON file, with their valid objects and ignored regions.

        Raises:
            DatasetError: If the boxes of the whole file are normalized, or corners.
        """
        entries: dict[int, CocoImage] = {}
        skipped: set[int] = set()
        for index, image in enumerate(self.document["images"]):
            entry = self._read_image(index, image, entries)
            id_ = whole_number(image.get("id")) if isinstance(image, dict) else None
            if entry:
                entries[entry.image_id] = entry
            elif id_ is not None:
                skipped.add(id_)
        self._refuse_misread_boxes(entries)
        unusable = self._add_annotations(entries, skipped - set(entries)) | self._source.unusable
        images = [entry for entry in entries.values() if entry.image_id not in unusable]
        finish_masks(images)
        return images

    def _read_image(self, index: int, image: Any, known: dict[int, CocoImage]) -> CocoImage | None:
        missing = _missing_keys_message(image, ("id", "file_name", "width", "height"))
        if missing:
            return self._record("image entry", f"images[{index}]", missing)
        name = str(image["file_name"])
        location = f"image {image['id']} ({name[:200]})"
        id_ = whole_number(image["id"])
        if id_ is None:
            message = "its id is not an integer (a whole number in 0 … 2⁶³ − 1)"
            return self._record("image entry", location, message)
        if id_ in known:
            return self._record("duplicate id", location, f"this id is also that of {known[id_].file_name}")
        width, height = whole_number(image["width"]), whole_number(image["height"])
        if not width or not height:
            message = f"its size is {image['width']}x{image['height']} pixels; sizes are whole numbers above 0"
            return self._record("image entry", location, message)
        entry = CocoImage(id_, name, self._source.find_image(name), (height, width))
        return entry if self._has_valid_image(entry, location) else None

    def _has_valid_image(self, entry: CocoImage, location: str) -> bool:
        message = _missing_file_message(entry)
        if message:
            self._record("missing image", location, message)
            return False
        try:
            sizes = read_image_sizes(entry.path, self.max_pixels)
        except ImageReadError as error:
            self._record("broken image", location, str(error))
            return False
        if entry.size not in sizes:
            declared, actual = (f"{width}x{height}" for height, width in (entry.size, sizes[0]))
            message = f"the json says {declared} pixels, the file has {actual}"
            self._record("image size mismatch", location, message)
            return False
        return True

    def _refuse_misread_boxes(self, entries: dict[int, CocoImage]) -> None:
        """Raise if most boxes are fractions of their image, or have the area of left, top, right, bottom."""
        boxes = [
            (index, annotation, entries[int(annotation["image_id"])].size)
            for index, annotation in enumerate(self.document["annotations"])
            if _has_box(annotation) and whole_number(annotation.get("image_id")) in entries
        ]
        normalized = [index for index, annotation, size in boxes if is_normalized(annotation["bbox"], size)]
        self._refuse_boxes(normalized, len(boxes), "normalized to 0…1. Multiply them by the size of their image")
        plain = [(index, a) for index, a, _ in boxes if a.get("area") and not a.get("segmentation")]
        corners = [index for index, a in plain if area_is_of_corners(a["area"], a["bbox"])]
        self._refuse_boxes(
            corners, len(plain), "like left, top, right, bottom: their areas are those. Subtract left and top"
        )

    def _refuse_boxes(self, indices: list[int], count: int, reading: str) -> None:
        if not indices or len(indices) < MISREAD_FRACTION * count:
            return
        annotations = self.document["annotations"]
        examples = ", ".join(f"annotations[{index}] {annotations[index]['bbox']}" for index in indices[:3])
        message = f"{len(indices)} of {count} boxes, such as {examples}, look {reading}; COCO has left, top, width, height in pixels"
        raise DatasetError([DataProblem(self.annotation_file, "'annotations'", "misread boxes", message)])

    def _add_annotations(self, entries: dict[int, CocoImage], skipped: set[int]) -> set[int]:
        """Add each annotation to its image; annotations of ``skipped`` images are reported already.

        Returns the ids of the images that have to be left out, because the region of one of their objects is unknown.
        """
        known_ids: dict[int, int] = defaultdict(int)
        unusable = set()
        for index, annotation in enumerate(self.document["annotations"]):
            missing = _missing_keys_message(annotation, ("image_id",))
            image_id = None if missing else whole_number(annotation["image_id"])
            if missing or image_id is None:
                message = missing or f"its image_id is {str(annotation['image_id'])[:80]!r}, not an integer"
                self._record("object entry", f"annotations[{index}]", message)
            elif image_id not in entries and image_id not in skipped:
                location = f"annotation {annotation.get('id')} (image {image_id})"
                self._record("unknown image", location, f"there is no image with id {image_id}")
            elif image_id in entries and not self._add_annotation(index, annotation, entries[image_id], known_ids):
                unusable.add(image_id)
        return unusable

    def _add_annotation(
        self, index: int, annotation: dict[str, Any], entry: CocoImage, known_ids: dict[int, int]
    ) -> bool:
        """Add an annotation to its image and record its problems; return whether its region is known."""
        parsed = parse_object(annotation, entry.size, self._labels)
        _check_id(annotation, known_ids, parsed)
        is_named = not any(kind == "object entry" and message.startswith("it") for kind, message, _ in parsed.problems)
        location = f"annotation {annotation['id']} (image {entry.image_id})" if is_named else f"annotations[{index}]"
        location = self._source.locations.get(index, location)
        for kind, message, effect in parsed.problems:
            self._record(kind, location, message, effect)
        if parsed.instance:
            entry.objects.append(parsed.instance)
        return parsed.instance is not None

    def _record(self, kind: str, location: str, message: str, effect: Effect = LEFT_OUT) -> None:
        self.problems.append(DataProblem(self.annotation_file, location, kind, message, effect))


def _load_document(source: SplitSource) -> dict[str, Any]:
    return (
        load_coco_document(source.file)
        if source.document is None
        else check_coco_document(source.file, source.document)
    )


def _check_id(annotation: dict[str, Any], known_ids: dict[int, int], parsed: ParsedObject) -> None:
    """Record an id that is absent, no integer or not unique. FeatLift numbers objects itself, so the object is used."""
    if "id" not in annotation:
        parsed.add_problem("object entry", "it has no id", KEPT)
        return
    id_ = whole_number(annotation["id"])
    if id_ is None:
        parsed.add_problem("object entry", f"its id is {str(annotation['id'])[:80]}, not an integer", KEPT)
        return
    known_ids[id_] += 1
    if known_ids[id_] > 1:
        parsed.add_problem("duplicate id", "this id is used twice", KEPT)


def _missing_file_message(entry: CocoImage) -> str:
    try:
        if entry.path.is_file():
            return ""
    except (OSError, ValueError) as error:
        return f"its file name cannot be opened ({error})"
    hint = ""
    if "\\" in entry.file_name:
        hint = f"; its name has backslashes, the separators of Windows: write {entry.file_name.replace(chr(92), '/')}"
    return f"there is no file {entry.path}{hint}"


def _missing_keys_message(entry: Any, keys: tuple[str, ...]) -> str:
    if not isinstance(entry, dict):
        return f"an entry is an object, not {repr(entry)[:80]}"
    missing = [key for key in keys if key not in entry]
    return f"it has no {', '.join(missing)}" if missing else ""


def _has_box(annotation: Any) -> bool:
    box = annotation.get("bbox") if isinstance(annotation, dict) else None
    return isinstance(box, list) and len(box) == 4 and all(is_finite_number(value) for value in box)
