"""PASCAL VOC: one XML file per image, in the folders of a VOC year or in any folders of images and XML files.

VOC's pixel coordinates start at 1 and include the last pixel; boxes here are edges starting at 0, of the same width.
"""

import xml.etree.ElementTree as xml
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from featlift.data.formats.split_source import Box, DocumentBuilder, SplitSource, relative_name
from featlift.data.formats.splits import SPLIT_NAMES, choose_split, find_classes, split_folders
from featlift.data.image_io import IMAGE_SUFFIXES

VOC_CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
TEST_SPLITS = {"train": "trainval", "val": "test"}
"""FeatLift's split → that of a VOC year with a published test set (VOC2007)."""
IMAGE_FOLDERS = ("JPEGImages", "images", "Images", ".")


@dataclass
class VocFile:
    """An XML file of a split: its path, and the folders in which its image may be."""

    path: Path
    image_folders: tuple[Path, ...]


@dataclass
class _Content:
    """The element tree of an XML file, or why it cannot be read."""

    root: xml.Element = field(default_factory=lambda: xml.Element("annotation"))
    error: str = ""


def find_voc_years(root: Path) -> list[Path]:
    """Folders of VOC years: ``root``, or those in ``root`` (``VOCdevkit``); empty if there are none."""
    if not root.is_dir():
        return []
    folders = [root, *sorted(path for path in root.iterdir() if path.is_dir())]
    years = [folder for folder in folders if (folder / "ImageSets" / "Main").is_dir()]
    return years[:1] if root in years else years


def is_voc(root: Path) -> bool:
    """Whether ``root`` has the folders of a VOC year, or annotations as XML files."""
    return bool(find_voc_years(root)) or any(_list_xml(folder) for folder in split_folders(root).values())


def list_voc_splits(root: Path) -> list[str]:
    """Splits of ``root``: "train" and "val" if ``ImageSets/Main`` lists them or "trainval" and "test", else its subfolders."""
    years = find_voc_years(root)
    if not years:
        return list(split_folders(root))
    names = _list_names(years)
    return list(TEST_SPLITS) if _has_test(years) else [split for split in SPLIT_NAMES if split in names]


def _has_test(years: Sequence[Path]) -> bool:
    """Whether the test set is published, so that "trainval" is for training."""
    return {"trainval", "test"} <= _list_names(years)


def _list_names(years: Sequence[Path]) -> set[str]:
    files = (path for year in years for path in (year / "ImageSets" / "Main").glob("*.txt"))
    return {path.stem for path in files if "_" not in path.stem}


def read_voc_split(root: Path, split: str) -> SplitSource:
    """Read the ``split`` of ``root``: the folder of a VOC year, a ``VOCdevkit`` with several years, which are joined, or folders of
    images and XML files.

    The classes are VOC's 20 if no others occur, else those of `featlift.data.formats.splits.find_classes` of
    the names in the XML files of all splits. Difficult objects are ignored in training and evaluation.

    Raises:
        FileNotFoundError: If there is no such split.
    """
    years = find_voc_years(root)
    files = _list_year_files(root, years, split) if years else _list_folder_files(root, split)
    contents = {file.path: _parse(file.path) for file in files}
    every_file = (
        [path for year in years for path in (year / "Annotations").glob("*.xml")] if years else _list_all_xml(root)
    )
    classes = _find_classes(root, [contents.get(path) or _parse(path) for path in every_file], bool(years))
    builder = DocumentBuilder("voc", root, root, classes)
    for file in files:
        _add_file(builder, file, contents[file.path])
    return builder.build()


def _list_year_files(root: Path, years: Sequence[Path], split: str) -> list[VocFile]:
    chosen = _split_lists(years, TEST_SPLITS.get(split, split) if _has_test(years) else split)
    if not chosen:
        present = ", ".join(sorted(_list_names(years))) or "none"
        raise FileNotFoundError(f"{root} has no list of split '{split}'. Splits: {present}.")
    return [
        VocFile(year / "Annotations" / f"{line.split()[0]}.xml", (year / "JPEGImages",))
        for year, file in chosen
        for line in file.read_text().splitlines()
        if line.strip()
    ]


def _split_lists(years: Sequence[Path], split: str) -> list[tuple[Path, Path]]:
    """Year and file of each list of ``split``."""
    pairs = [(year, year / "ImageSets" / "Main" / f"{split}.txt") for year in years]
    return [(year, file) for year, file in pairs if file.is_file()]


def _list_folder_files(root: Path, split: str) -> list[VocFile]:
    folders = split_folders(root)
    folder = folders[choose_split(root, split, folders)]
    images = tuple(folder / name for name in IMAGE_FOLDERS)
    return [VocFile(path, (path.parent, *images)) for path in _list_xml(folder)]


def _list_xml(folder: Path) -> list[Path]:
    for pattern in ("*.xml", "Annotations/*.xml", "annotations/*.xml"):
        files = [path for path in sorted(folder.glob(pattern)) if not path.name.startswith("._")]
        if files and (pattern != "*.xml" or _parse(files[0]).root.tag == "annotation"):
            return files
    return []


def _list_all_xml(root: Path) -> list[Path]:
    return [path for folder in split_folders(root).values() for path in _list_xml(folder)]


def _find_classes(root: Path, contents: Sequence[_Content], is_year: bool) -> list[str]:
    names = {_text(instance, "name") for content in contents for instance in content.root.findall("object")} - {""}
    if is_year and names <= set(VOC_CLASSES):
        return list(VOC_CLASSES)
    return find_classes(root, names)


def _parse(path: Path) -> _Content:
    try:
        return _Content(xml.parse(path).getroot())
    except (OSError, xml.ParseError, UnicodeDecodeError) as error:
        return _Content(error="there is no such file" if not path.is_file() else f"this is not XML ({error})")


def _add_file(builder: DocumentBuilder, file: VocFile, content: _Content) -> None:
    location = relative_name(file.path, builder.source.file)
    if content.error:
        builder.add_problem(location, "broken xml", content.error)
        return
    size = tuple(_number(content.root, f"size/{side}") for side in ("height", "width"))
    image = builder.add_image(_find_image(file, content.root), (int(size[0]), int(size[1])) if min(size) > 0 else None)
    if image is None:
        return
    for index, instance in enumerate(content.root.findall("object"), 1):
        where = f"{location}, object {index}"
        name, box = _text(instance, "name"), _read_box(instance)
        if not name or box is None:
            builder.add_broken_object(
                image,
                where,
                "object entry",
                "it lacks a <name>, or a number in <bndbox>: <xmin>, <ymin>, <xmax>, <ymax>",
            )
            continue
        if message := _misread_message(box):
            builder.add_broken_object(image, where, "misread box", message)
            continue
        builder.add_object(
            image, builder.classes.index(name), box, location=where, ignore=_text(instance, "difficult") == "1"
        )


def _find_image(file: VocFile, root: xml.Element) -> Path:
    """Image of an XML file: its ``<filename>``, which tools often leave wrong, or an image of the same stem."""
    written = _text(root, "filename").replace("\\", "/").rpartition("/")[2]
    suffixes = [suffix for lower in IMAGE_SUFFIXES for suffix in (lower, lower.upper())]
    names = [written, *(f"{file.path.stem}{suffix}" for suffix in suffixes)]
    found = (folder / name for folder in file.image_folders for name in names if name)
    default = file.image_folders[0] / (written or f"{file.path.stem}.jpg")
    return next((path for path in found if path.is_file()), default)


def _read_box(instance: xml.Element) -> Box | None:
    values = [_number(instance, f"bndbox/{key}") for key in ("xmin", "ymin", "xmax", "ymax")]
    return None if any(value < -1 for value in values) else (values[0] - 1, values[1] - 1, values[2], values[3])


def _misread_message(box: Box) -> str:
    """Message if ``box`` was written as width and height, or in fractions of the image."""
    left, top, right, bottom = box[0] + 1, box[1] + 1, box[2], box[3]
    if right < left or bottom < top:
        return (
            f"it has no area: its <xmin>, <ymin> {left:g}, {top:g} are beyond its <xmax>, <ymax> {right:g}, {bottom:g}; VOC has the first "
            "and the last pixel, not width and height"
        )
    if max(right, bottom) <= 1 and any(value % 1 for value in (left, top, right, bottom)):
        return f"its box {left:g}, {top:g}, {right:g}, {bottom:g} looks normalized to 0…1; VOC has pixels"
    return ""


def _number(element: xml.Element, path: str) -> float:
    """Number in the element ``path``; minus infinity if there is none."""
    try:
        return float(_text(element, path))
    except ValueError:
        return -float("inf")


def _text(element: xml.Element, path: str) -> str:
    return (element.findtext(path) or "").strip()
