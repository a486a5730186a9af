"""The data of a run: train and val have the same classes, and a resumed run has the data that it began with."""

import hashlib
import json
from typing import Any

from featlift.checkpoints.json_io import write_json
from featlift.data.dataset import ImageDataset
from featlift.data.fingerprint import dataset_fingerprint
from featlift.training import Run

RUN_DATA_FILE = "data.json"


def check_same_classes(train: ImageDataset, val: ImageDataset, root: str) -> None:
    """Check that ``train`` and ``val`` have classes of the same names; their ids and order may differ.

    Raises:
        ValueError: If one lacks a class of the other.
    """
    missing = {
        "val": [name for name in train.classes if name not in val.classes],
        "train": [name for name in val.classes if name not in train.classes],
    }
    if not any(missing.values()):
        return
    lacking = "; ".join(f"{split} lacks {', '.join(names)}" for split, names in missing.items() if names)
    raise ValueError(
        f"The splits of {root} have different classes: {lacking}. train has {', '.join(train.classes)}; val has "
        f"{', '.join(val.classes)}. List all classes in both files, also those without objects."
    )


def record_run_data(run: Run, dataset: ImageDataset) -> None:
    """Write what identifies the training data to the run's ``data.json``, or compare with it if the run is resumed.

    Raises:
        ValueError: If the data changed since the run began; names what changed.
    """
    current = describe_run_data(dataset)
    path = run.folder / RUN_DATA_FILE
    if path.is_file() and run.stage_progress():
        changes = _list_changes(json.loads(path.read_text(encoding="utf-8")), current)
        if changes:
            raise ValueError(
                f"The training data changed since {run.folder} began: {'; '.join(changes)}. Restore the data, or train in another folder."
            )
    elif run.rank == 0:
        write_json(path, current)


def describe_run_data(dataset: ImageDataset) -> dict[str, Any]:
    """Classes, category ids, number of images, and fingerprints of the annotations and of the file list."""
    names = sorted(dataset.image_name(index) for index in range(len(dataset)))
    return {
        "classes": list(dataset.classes),
        "category_ids": list(dataset.category_ids),
        "images": len(names),
        "annotations": dataset_fingerprint(dataset),
        "files": hashlib.sha256(json.dumps(names).encode()).hexdigest()[:16],
    }


def read_run_classes(run: Run) -> list[str] | None:
    """Class names of the run's training data, in the order of the labels; None if the run has no ``data.json``."""
    path = run.folder / RUN_DATA_FILE
    return json.loads(path.read_text(encoding="utf-8"))["classes"] if path.is_file() else None


def read_run_category_ids(run: Run) -> list[int] | None:
    """Category ids of the run's training data, in the order of the labels; None if the run has no ``data.json``."""
    path = run.folder / RUN_DATA_FILE
    return json.loads(path.read_text(encoding="utf-8"))["category_ids"] if path.is_file() else None


def _list_changes(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    changes = []
    if before["classes"] != now["classes"]:
        changes.append(f"the classes were {', '.join(before['classes'])} and are {', '.join(now['classes'])}")
    if before["category_ids"] != now["category_ids"]:
        changes.append(f"the category ids were {before['category_ids'][:20]} and are {now['category_ids'][:20]}")
    if before["images"] != now["images"]:
        changes.append(f"there were {before['images']} images and are {now['images']}")
    if before["files"] != now["files"] and before["images"] == now["images"]:
        changes.append("the image files have other names")
    if before["annotations"] != now["annotations"] and not changes:
        changes.append("ids, sizes, labels or boxes of the annotations differ")
    return changes
