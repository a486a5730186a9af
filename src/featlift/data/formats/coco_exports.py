"""COCO JSON files with other names and folders than COCO's: exports of Roboflow, CVAT, Label Studio, or one file and its images."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from featlift.data.formats.split_source import SplitSource
from featlift.data.formats.splits import choose_split, split_of
from featlift.data.problems import DataProblem, DatasetError

NUM_TESTED_IMAGES = 20
"""Number of images that must be in a folder for it to be the image folder."""
SNIFFED_BYTES = 65_536
ANNOTATION_FOLDERS = ("annotations", "labels", "Annotations")
"""Folders of JSON files whose images are next to them and not below."""
ROBOFLOW_FILE = "_annotations.coco.json"


@dataclass
class _Export:
    """A JSON file and the split that its name, or its folder's, stands for."""

    file: Path
    split: str


def is_coco_export(root: Path) -> bool:
    """Whether ``root`` is a COCO JSON file, or a folder with one in it, in ``annotations`` or in folders named after splits."""
    return bool(_list_exports(root))


def list_coco_splits(root: Path) -> list[str]:
    """Splits of the JSON files of ``root``."""
    return list(dict.fromkeys(export.split for export in _list_exports(root)))


def read_coco_export(root: Path, split: str) -> SplitSource:
    """Find the JSON file of ``split`` in ``root``, and the folder of its images by `find_image_folder`.

    Roboflow's category 0, the name of the project, is removed if no object has it.

    Raises:
        DatasetError: If the file is no JSON file, or its images are not found.
        FileNotFoundError: If there is no such split, or several files for it.
    """
    exports = _list_exports(root)
    chosen = choose_split(root, split, dict.fromkeys(export.split for export in exports))
    files = [export.file for export in exports if export.split == chosen]
    if len(files) > 1:
        names = ", ".join(file.name for file in files)
        raise FileNotFoundError(
            f"{root} has several JSON files for the split '{chosen}': {names}. Give one as --data FILE.json."
        )
    document = _load(files[0])
    notes = _remove_project_category(document) if files[0].name == ROBOFLOW_FILE else []
    folder = find_image_folder(files[0], document)
    return SplitSource("coco", files[0], folder, document, notes=notes)


def find_image_folder(file: Path, document: dict[str, Any]) -> Path:
    """Folder in which the images of the COCO ``document`` of ``file`` are: that of the file, or up to two folders below it.

    Raises:
        DatasetError: If no folder has them; names the folders.
    """
    entries = document.get("images")
    names = (
        [str(e["file_name"]) for e in entries if isinstance(e, dict) and "file_name" in e]
        if isinstance(entries, list)
        else []
    )
    step = max(1, len(names) // NUM_TESTED_IMAGES)
    tested = [name.replace("\\", "/") for name in names[::step]]
    folders = list(dict.fromkeys(_candidate_folders(file)))
    counts = {folder: sum((folder / name).is_file() for name in tested) for folder in folders}
    best = max(folders, key=lambda folder: counts[folder])
    if tested and not counts[best]:
        searched = ", ".join(str(folder) for folder in folders[:8])
        message = f"the image '{names[0]}' is in none of the folders {searched}; put the JSON file next to the folder of its images"
        raise DatasetError([DataProblem(file, "'images'", "missing image", message)])
    return best


def _candidate_folders(file: Path) -> Iterator[Path]:
    bases = (file.parent, file.parent.parent) if file.parent.name in ANNOTATION_FOLDERS else (file.parent,)
    for base in bases:
        yield base
        children = sorted(path for path in base.iterdir() if path.is_dir() and not path.name.startswith("."))
        yield from children
        for child in children:
            yield from sorted(path for path in child.iterdir() if path.is_dir())


def _list_exports(root: Path) -> list[_Export]:
    if root.is_file():
        return [_Export(root, _split_of_file(root, root.parent))] if _is_coco(root) else []
    if not root.is_dir():
        return []
    folders = [root, *sorted(path for path in root.iterdir() if path.is_dir())]
    folders = [
        folder for folder in folders if folder == root or folder.name == "annotations" or split_of(folder.name) != "all"
    ]
    files = [path for folder in folders for path in sorted(folder.glob("*.json")) if not path.name.startswith("._")]
    return [_Export(file, _split_of_file(file, root)) for file in files if _is_coco(file)]


def _split_of_file(file: Path, root: Path) -> str:
    """Split in the name of ``file``, else in that of its folder below ``root``."""
    split = split_of(file.stem)
    return split if split != "all" or file.parent == root else split_of(file.parent.name)


def _is_coco(path: Path) -> bool:
    """Whether the file has keys of a COCO file at its beginning or end; large files are not read whole."""
    if path.suffix != ".json":
        return False
    with open(path, "rb") as file:
        beginning = file.read(SNIFFED_BYTES)
        file.seek(max(0, path.stat().st_size - SNIFFED_BYTES))
        end = file.read()
    keys = (b'"images"', b'"annotations"', b'"categories"')
    return sum(key in beginning or key in end for key in keys) >= 2 and b'"shapes"' not in beginning


def _load(file: Path) -> dict[str, Any]:
    try:
        document = json.loads(file.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise DatasetError([DataProblem(file, "the file", "broken json", f"this is not JSON ({error})")]) from error
    if not isinstance(document, dict):
        raise DatasetError([DataProblem(file, "the file", "broken json", "a COCO JSON file holds an object")])
    return document


def _remove_project_category(document: dict[str, Any]) -> list[str]:
    """Remove Roboflow's unused category 0, of which all others are subcategories; return a note."""
    categories, annotations = document.get("categories"), document.get("annotations")
    if not isinstance(categories, list) or not isinstance(annotations, list):
        return []
    zero = next(
        (c for c in categories if isinstance(c, dict) and c.get("id") == 0 and c.get("supercategory") == "none"), None
    )
    others = [c for c in categories if c is not zero]
    if zero is None or not all(isinstance(c, dict) and c.get("supercategory") == zero.get("name") for c in others):
        return []
    if not others or any(isinstance(a, dict) and a.get("category_id") == 0 for a in annotations):
        return []
    document["categories"] = others
    return [f"category 0, '{zero['name']}', is the name of the Roboflow project; it has no objects and is left out"]
