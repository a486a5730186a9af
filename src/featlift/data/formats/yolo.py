"""YOLO: ``data.yaml`` with class names and image folders, one text file of normalized boxes or polygons per image.

A line is ``class cx cy w h`` or ``class x1 y1 x2 y2 …``, in fractions of the upright image's width and height.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from featlift.data.formats.split_source import Box, DocumentBuilder, SplitSource, relative_name
from featlift.data.formats.splits import SPLIT_NAMES, choose_split
from featlift.data.image_io import ImageSize, list_images
from featlift.data.problems import DataProblem, DatasetError

MAX_FRACTION = 1.5
"""Larger coordinates are no fractions; between 1 and this, boxes are checked against the image in pixels."""
MISREAD_FRACTION = 0.5
"""Fraction of boxes that look like corners from which all are refused."""
MAX_CLASSES = 100_000
"""A larger number of classes is damage."""
LabelLine = tuple[str, list[float]]
"""Location of a line and its coordinates."""


@dataclass
class YoloConfig:
    """Content of a ``data.yaml``: its file, the folder of its paths, classes, image lists by split, values per object after the box."""

    file: Path
    base: Path
    classes: list[str]
    entries: dict[str, list[str]] = field(default_factory=dict)
    num_keypoint_values: int = 0


def find_yolo_file(root: Path) -> Path | None:
    """The ``data.yaml`` of ``root``, which is this file or a folder with exactly one such file; None if it is neither."""
    if root.is_file():
        return root if root.suffix in (".yaml", ".yml") else None
    files = [path for pattern in ("*.yaml", "*.yml") for path in sorted(root.glob(pattern)) if _is_yolo_file(path)]
    named = [path for path in files if path.stem in ("data", "dataset")]
    return (named or files)[0] if len(named or files) == 1 else None


def list_yolo_splits(root: Path) -> list[str]:
    """Splits of the ``data.yaml`` of ``root``: "train", "val", "test"."""
    return list(_load_config(root).entries)


def read_yolo_split(root: Path, split: str) -> SplitSource:
    """Read the ``split`` of the YOLO dataset ``root``, its ``data.yaml`` or the folder of it.

    Category ids are YOLO's classes, from 0. An image without a text file has no objects.

    Raises:
        DatasetError: If the ``data.yaml`` cannot be read.
        FileNotFoundError: If there is no such split or image folder.
    """
    config = _load_config(root)
    images = _list_split_images(config, choose_split(root, split, config.entries))
    builder = DocumentBuilder("yolo", config.file, config.base, config.classes, first_id=0)
    num_unlabeled, boxes = 0, list[LabelLine]()
    for path in images:
        labels = find_label_file(path)
        num_unlabeled += not labels.is_file()
        image = builder.add_image(path)
        if image and labels.is_file():
            boxes += _add_label_file(builder, image, labels, config)
    _refuse_corners(config.file, boxes)
    if num_unlabeled:
        builder.source.notes.append(
            f"{num_unlabeled} images have no label file: they are read as images without objects"
        )
    if config.num_keypoint_values:
        builder.source.notes.append("the keypoints of the objects are not read")
    return builder.build()


def find_label_file(image: Path) -> Path:
    """YOLO's label file of ``image``: the last folder ``images`` of its path is ``labels``, the suffix ``.txt``."""
    parts = list(image.parts)
    for index in range(len(parts) - 2, -1, -1):
        if parts[index] == "images":
            parts[index] = "labels"
            break
    return Path(*parts).with_suffix(".txt")


def _is_yolo_file(path: Path) -> bool:
    content = _load_yaml(path)
    return isinstance(content, dict) and "train" in content and ("names" in content or "nc" in content)


def _load_yaml(path: Path) -> Any:
    import yaml

    try:
        return yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except (yaml.YAMLError, UnicodeDecodeError, OSError):
        return None


def _load_config(root: Path) -> YoloConfig:
    file = find_yolo_file(root) or root
    content = _load_yaml(file) if file.is_file() else None
    if not isinstance(content, dict):
        raise DatasetError([DataProblem(file, "the file", "broken yaml", "this is not a data.yaml of YOLO")])
    base = file.parent / str(content.get("path") or "")
    config = YoloConfig(file, base if base.is_dir() else file.parent, _parse_classes(file, content))
    for split, names in SPLIT_NAMES.items():
        entry = next((content[name] for name in names if content.get(name)), None)
        if entry:
            config.entries[split] = [str(path) for path in (entry if isinstance(entry, list) else [entry])]
    shape = content.get("kpt_shape")
    config.num_keypoint_values = math.prod(shape) if isinstance(shape, list) else 0
    return config


def _parse_classes(file: Path, content: dict[str, Any]) -> list[str]:
    names = content.get("names", content.get("nc"))
    if isinstance(names, list):
        return [str(name) for name in names]
    if isinstance(names, int) and 0 < names <= MAX_CLASSES:
        return [str(index) for index in range(names)]
    if isinstance(names, dict) and set(names) == set(range(len(names))):
        return [str(names[index]) for index in range(len(names))]
    message = f"names is {str(names)[:100]}; it is a list of class names, or a mapping from 0, 1, … to them"
    raise DatasetError([DataProblem(file, "'names'", "category", message)])


def _list_split_images(config: YoloConfig, split: str) -> list[Path]:
    images: dict[Path, None] = {}
    for entry in config.entries[split]:
        path = _resolve(config, entry)
        if not path.exists():
            raise FileNotFoundError(f"{config.file} names {entry!r} as images of {split}, but there is no {path}.")
        found = _read_image_list(path) if path.suffix == ".txt" and path.is_file() else list_images(path)
        images |= dict.fromkeys(found)
    return list(images)


def _resolve(config: YoloConfig, entry: str) -> Path:
    """Path of an image folder or list; Roboflow writes ``../train/images`` for a folder next to ``data.yaml``."""
    candidates = [config.base / entry, config.file.parent / entry]
    candidates += [folder / entry.removeprefix("../") for folder in (config.base, config.file.parent)]
    return next((path for path in candidates if path.exists()), candidates[0])


def _read_image_list(file: Path) -> list[Path]:
    lines = [line.strip() for line in file.read_text(encoding="utf-8-sig").splitlines()]
    return [file.parent / line.removeprefix("./") for line in lines if line]


def _add_label_file(
    builder: DocumentBuilder, image: dict[str, Any], file: Path, config: YoloConfig
) -> Iterator[LabelLine]:
    """Add the objects of a label file, and yield those that are boxes."""
    name = relative_name(file, config.base)
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        builder.add_broken_object(image, name, "broken label file", f"it cannot be read ({error})")
        return
    for number, line in enumerate(lines, 1):
        location = f"{name}, line {number}"
        if not line.strip():
            continue
        try:
            label, values = _parse_line(line, config)
        except ValueError as error:
            builder.add_broken_object(image, location, "object entry", str(error))
            continue
        if len(values) == 4:
            builder.add_object(image, label, _to_pixel_box(values, image), location=location)
            yield location, values
        else:
            builder.add_object(image, label, segmentation=[_to_pixels(values, image)], location=location)


def _refuse_corners(file: Path, boxes: Sequence[LabelLine]) -> None:
    """Raise if most boxes exceed their image as center and size, but not as left, top, right, bottom."""
    corners = [(location, values) for location, values in boxes if _looks_like_corners(values)]
    if not corners or len(corners) < MISREAD_FRACTION * len(boxes):
        return
    examples = ", ".join(f"{location} {values}" for location, values in corners[:3])
    message = (
        f"{len(corners)} of {len(boxes)} boxes, such as {examples}, look like left, top, right, bottom; YOLO has center x, center y, "
        "width, height"
    )
    raise DatasetError([DataProblem(file, "the label files", "misread boxes", message)])


def _looks_like_corners(values: Sequence[float]) -> bool:
    x, y, width, height = values
    exceeds = max(width / 2 - x, height / 2 - y, x + width / 2 - 1, y + height / 2 - 1) > 0.01
    return exceeds and 0 <= x < width <= 1 and 0 <= y < height <= 1


def _parse_line(line: str, config: YoloConfig) -> tuple[int, list[float]]:
    """Class index, and the four values of the box or the coordinates of the polygon."""
    try:
        label, *values = (float(word) for word in line.split())
    except ValueError:
        raise ValueError(f"'{line.strip()[:60]}' has a word that is not a number") from None
    if not all(map(math.isfinite, (label, *values))):
        raise ValueError(f"'{line.strip()[:60]}' has a value that is not finite")
    if not 0 <= label < len(config.classes) or label != int(label):
        raise ValueError(f"its class is {label:g}; {config.file.name} has the classes 0 to {len(config.classes) - 1}")
    if config.num_keypoint_values:
        values = values[:4]
    if len(values) == 5:
        raise ValueError("it has six numbers: a class, a box and a score, as in a file of predictions")
    if len(values) != 4 and (len(values) < 6 or len(values) % 2):
        raise ValueError(f"it has {len(values) + 1} numbers; a box has 5, a polygon of n points 1 + 2n")
    if max(values) > MAX_FRACTION:
        raise ValueError(
            f"it has the coordinate {max(values):g}; coordinates are fractions of the image's width and height"
        )
    return int(label), values


def _to_pixel_box(values: list[float], image: dict[str, Any]) -> Box:
    x, y, width, height = (value * side for value, side in zip(values, _sides(image) * 2, strict=True))
    return x - width / 2, y - height / 2, x + width / 2, y + height / 2


def _to_pixels(values: list[float], image: dict[str, Any]) -> list[float]:
    return [value * side for value, side in zip(values, _sides(image) * (len(values) // 2), strict=True)]


def _sides(image: dict[str, Any]) -> ImageSize:
    return image["width"], image["height"]
