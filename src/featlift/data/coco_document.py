"""The JSON file of a COCO dataset: its lists and its categories, whose faults are never skipped."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

from featlift.data.problems import DataProblem, DatasetError

MAX_ID = 2**63 - 1


def load_coco_document(file: Path) -> dict[str, Any]:
    """Load the COCO JSON file ``file``; an ``image_info_….json``, such as COCO's test-dev, may have no annotations.

    Raises:
        DatasetError: If the file is missing, not JSON, or not in COCO's format.
    """
    if not file.is_file():
        raise _fatal(file, "missing json", "the file", "there is no such file")
    try:
        document = json.loads(file.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise _fatal(file, "broken json", "the file", f"this is not JSON ({error})") from error
    return check_coco_document(file, document)


def check_coco_document(file: Path, document: Any) -> dict[str, Any]:
    """Return the ``document`` that was read from ``file`` if it has COCO's lists.

    Raises:
        DatasetError: If it is not in COCO's format.
    """
    if not isinstance(document, dict):
        message = f"a COCO JSON file holds an object, not a {type(document).__name__}"
        raise _fatal(file, "broken json", "the file", message)
    if file.name.startswith("image_info_"):
        document.setdefault("annotations", [])
    for key in ("images", "annotations", "categories"):
        if not isinstance(document.get(key), list):
            keys = ", ".join(map(str, document)) or "nothing"
            message = f"a COCO JSON file has a list of this name; this file has {keys}"
            raise _fatal(file, "broken json", f"'{key}'", message)
    for key in ("images", "categories"):
        if not document[key]:
            raise _fatal(file, "empty", f"'{key}'", "the list is empty: there is nothing to train on")
    return document


def read_categories(file: Path, document: dict[str, Any]) -> dict[int, str]:
    """Category id → name, in the order of the ids.

    Raises:
        DatasetError: If a category has no integer id or no name, or two have one id or one name.
    """
    names: dict[int, str] = {}
    for index, category in enumerate(document["categories"]):
        id_ = whole_number(category.get("id")) if isinstance(category, dict) else None
        if id_ is None or "name" not in category:
            raise _fatal(file, "category", f"categories[{index}]", "a category has an integer 'id' and a 'name'")
        if id_ in names:
            raise _fatal(file, "category", f"category {id_}", "this id is used twice")
        names[id_] = str(category["name"])
    for name, count in Counter(names.values()).items():
        if count > 1:
            ids = " and ".join(str(id_) for id_ in sorted(names) if names[id_] == name)
            message = f"the categories {ids} have one name; rename them, or merge them into one id"
            raise _fatal(file, "category", f"category '{name}'", message)
    return {id_: names[id_] for id_ in sorted(names)}


def whole_number(value: Any) -> int | None:
    """``value`` as an int in 0 … 2⁶³ − 1 if it is one, also if it is written as 7.0; else None."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_ID else None


def _fatal(file: Path, kind: str, location: str, message: str) -> DatasetError:
    return DatasetError([DataProblem(file, location, kind, message)])
