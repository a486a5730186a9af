"""Hugging Face datasets with objects: a folder written by ``save_to_disk``, or an image folder with ``metadata.jsonl``.

A row has an image and ``objects``, with the boxes ``bbox`` in COCO's form (left, top, width, height in pixels) and their classes. Nothing
is downloaded.
"""

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from featlift.data.formats.split_source import DocumentBuilder, SplitSource
from featlift.data.formats.splits import ALL, choose_split, find_classes, split_folders, split_of
from featlift.data.image_io import ImageSize
from featlift.data.problems import DataProblem, DatasetError

METADATA_FILE = "metadata.jsonl"
CATEGORY_KEYS = ("category", "categories", "label", "labels", "category_id", "class", "class_id")
"""Names of the list of classes in ``objects``; boxes are ``bbox``, ``bboxes`` or ``boxes``."""
BOX_KEYS = ("bbox", "bboxes", "boxes")


class ArrowImage:
    """An encoded image in a Hugging Face dataset, which is read from the Arrow file when it is opened."""

    def __init__(self, dataset: Any, column: str, index: int, name: str) -> None:
        self._dataset, self._column, self._index, self._name = dataset, column, index, name

    def __str__(self) -> str:
        return self._name

    def is_file(self) -> bool:
        """Whether the row has an image."""
        return bool(self._dataset[self._index][self._column])

    def open(self, mode: str = "rb") -> io.BytesIO:
        """Content of the image file."""
        value = self._dataset[self._index][self._column]
        return io.BytesIO(value["bytes"] if value["bytes"] is not None else Path(value["path"]).read_bytes())


def is_hugging_face(root: Path) -> bool:
    """Whether ``root`` was written by ``save_to_disk``, or it or its split folders have a ``metadata.jsonl``."""
    return _is_saved(root) or any((folder / METADATA_FILE).is_file() for folder in split_folders(root).values())


def list_hugging_face_splits(root: Path) -> list[str]:
    """Splits of ``root``."""
    return list(_saved_splits(root) if _is_saved(root) else split_folders(root))


def read_hugging_face_split(root: Path, split: str) -> SplitSource:
    """Read the ``split`` of ``root``.

    Names of classes are those of the ``ClassLabel``, else `find_classes` of the texts in the rows, else the numbers.

    Raises:
        DatasetError: If the rows have no image or no objects.
        FileNotFoundError: If there is no such split.
        ImportError: naming the extra, if ``save_to_disk`` wrote ``root`` and the package ``datasets`` is missing.
    """
    if _is_saved(root):
        splits = _saved_splits(root)
        return _read_saved(
            root, {name: _load_from_disk(folder) for name, folder in splits.items()}, choose_split(root, split, splits)
        )
    folders = split_folders(root)
    return _read_metadata(root, folders, choose_split(root, split, folders))


def _is_saved(root: Path) -> bool:
    return (root / "dataset_dict.json").is_file() or (root / "state.json").is_file()


def _saved_splits(root: Path) -> dict[str, Path]:
    file = root / "dataset_dict.json"
    names = json.loads(file.read_text())["splits"] if file.is_file() else []
    return {split_of(name): root / name for name in names} or {ALL: root}


def _load_from_disk(folder: Path) -> Any:
    try:
        import datasets
    except ImportError as error:
        raise ImportError(
            f"{folder} is a Hugging Face dataset; reading it needs pip install 'featlift[formats]'."
        ) from error
    dataset: Any = datasets.load_from_disk(str(folder))
    column = _image_column(dataset.features)
    if not column:
        raise _error(folder, f"none of the columns {', '.join(dataset.column_names)} is an image")
    return dataset.cast_column(column, datasets.Image(decode=False))


def _image_column(features: Mapping[str, Any]) -> str:
    return next((name for name, feature in features.items() if type(feature).__name__ == "Image"), "")


def _read_saved(root: Path, datasets: Mapping[str, Any], split: str) -> SplitSource:
    dataset = datasets[split]
    column = _image_column(dataset.features)
    class_label = _find_class_label(dataset.features.get("objects"))
    every_row = [row for each in datasets.values() for row in each.remove_columns(_image_column(each.features))]
    builder = DocumentBuilder(
        "hugging-face", root, root, class_label or _collect_classes(root, every_row), first_id=_first_id(class_label)
    )
    for index, row in enumerate(dataset):
        name = Path(row[column]["path"] or f"{index:06d}").name
        image_file = ArrowImage(dataset, column, index, f"{index:06d}_{name}")
        image = _add_arrow_image(builder, image_file, row.get("image_id"))
        if image:
            _add_objects(builder, image, row.get("objects"), f"row {index}")
    return builder.build()


def _first_id(class_label: Sequence[str]) -> int:
    """Category id of the first class: a ``ClassLabel`` counts from 0."""
    return 0 if class_label else 1


def _add_arrow_image(builder: DocumentBuilder, file: ArrowImage, image_id: Any) -> dict[str, Any] | None:
    try:
        with Image.open(file.open()) as image:
            size: ImageSize = (image.height, image.width)
    except Exception as error:  # the bytes may be anything
        return builder.add_problem(str(file), "broken image", f"it cannot be read ({error})")
    entry = builder.add_image(Path(str(file)), size)
    if entry:
        builder.source.files[entry["file_name"]] = file
        if isinstance(image_id, int):
            entry["id"] = image_id
    return entry


def _read_metadata(root: Path, folders: Mapping[str, Path], split: str) -> SplitSource:
    rows = {name: list(_load_rows(folder / METADATA_FILE)) for name, folder in folders.items()}
    classes = _collect_classes(root, [row for each in rows.values() for _, row in each])
    builder = DocumentBuilder("hugging-face", folders[split] / METADATA_FILE, folders[split], classes)
    for number, row in rows[split]:
        if "file_name" not in row:
            builder.add_problem(f"line {number}", "image entry", "it has no file_name")
            continue
        image = builder.add_image(folders[split] / str(row["file_name"]))
        if image:
            _add_objects(builder, image, row.get("objects"), f"line {number}")
    return builder.build()


def _load_rows(file: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    lines = file.read_text(encoding="utf-8-sig").splitlines() if file.is_file() else []
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line) if line.strip() else {}
        except ValueError as error:
            raise _error(file, f"line {number} is not JSON ({error})") from error
        if row:
            yield number, row


def _add_objects(builder: DocumentBuilder, image: dict[str, Any], objects: Any, location: str) -> None:
    boxes, categories, crowds, areas = _columns(objects)
    counts = {"classes": len(categories), "crowd flags": len(crowds or boxes), "areas": len(areas or boxes)}
    wrong = " and ".join(f"{count} {name}" for name, count in counts.items() if count != len(boxes))
    if wrong:
        builder.add_broken_object(image, location, "object entry", f"it has {len(boxes)} boxes and {wrong}")
        return
    names = {name: index for index, name in enumerate(builder.classes)}
    rows = zip(boxes, categories, crowds or [0] * len(boxes), areas or [None] * len(boxes), strict=True)
    for index, (box, category, crowd, area) in enumerate(rows):
        label = category if isinstance(category, int) and str(category) not in names else names.get(str(category), -1)
        where = f"{location}, object {index}"
        if not 0 <= label < len(names) or len(box) != 4:
            builder.add_broken_object(image, where, "object entry", f"its class is {category!r}, its box {box!r}")
            continue
        corners = (box[0], box[1], box[0] + box[2], box[1] + box[3])
        builder.add_object(image, label, corners, None, where, bool(crowd), area)


def _columns(objects: Any) -> tuple[list[Any], list[Any], list[Any], list[Any]]:
    """Boxes, classes and, if present, crowd flags and areas of ``objects``, a mapping of lists or a list of mappings."""
    if isinstance(objects, list):
        keys = objects[0] if objects else {}
        objects = {key: [each[key] for each in objects] for key in keys}
    objects = objects or {}
    boxes, categories = (
        next((objects[key] for key in keys if key in objects), []) for keys in (BOX_KEYS, CATEGORY_KEYS)
    )
    return list(boxes), list(categories), list(objects.get("iscrowd", [])), list(objects.get("area", []))


def _collect_classes(root: Path, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    values = {value for row in rows for value in _columns(row.get("objects"))[1]}
    if all(isinstance(value, int) for value in values):
        return [str(value) for value in range(max(values, default=-1) + 1)]
    return find_classes(root, {str(value) for value in values})


def _find_class_label(feature: Any) -> list[str]:
    """Names of the first ``ClassLabel`` in ``feature`` of the objects; empty if there is none."""
    if hasattr(feature, "names"):
        return list(feature.names)
    inner = (
        feature.get("feature")
        if isinstance(feature, dict) and "feature" in feature
        else getattr(feature, "feature", None)
    )
    children = [inner] if inner is not None else list(feature.values()) if isinstance(feature, dict) else []
    return next((names for child in children if (names := _find_class_label(child))), [])


def _error(file: Path, message: str) -> DatasetError:
    return DatasetError([DataProblem(file, "the rows", "image entry", message)])
