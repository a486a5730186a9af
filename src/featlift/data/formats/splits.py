"""Splits of a dataset folder by the names that tools give them: train, val (valid, validation), test."""

import re
from collections.abc import Collection, Iterable
from pathlib import Path

SPLIT_NAMES: dict[str, tuple[str, ...]] = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
}
"""Split → the words that name it in files and folders, as ``train2017``, ``valid`` or ``instances_val.json``."""
CLASS_FILES = ("classes.txt", "labels.txt", "labelmap.txt")
"""Files with one class per line that tools write next to the annotations; CVAT appends ``:color:parts:actions`` to each."""
ALL = "all"
"""Split of a dataset that is not divided."""


def split_of(name: str) -> str:
    """Split that a file or folder name stands for: "valid" → "val", "instances_train2017.json" → "train"; `ALL` if it names none."""
    words = re.findall(r"[a-z]+", name.lower())
    return next((split for split, names in SPLIT_NAMES.items() if set(words) & set(names)), ALL)


def split_folders(root: Path) -> dict[str, Path]:
    """Subfolders of ``root`` by the split that they are named after; `ALL` is ``root`` if there is none."""
    folders = {split_of(path.name): path for path in sorted(root.iterdir()) if path.is_dir()} if root.is_dir() else {}
    folders.pop(ALL, None)
    return folders or {ALL: root}


def choose_split(root: Path, split: str, splits: Iterable[str]) -> str:
    """The one of ``splits`` that ``split`` asks for. A dataset that is not divided serves as "train" and `ALL`.

    Raises:
        FileNotFoundError: If ``root`` has no such split; names those it has and what to do.
    """
    present = list(splits)
    wanted = split if split in (*SPLIT_NAMES, ALL) else split_of(split)
    if wanted in present:
        return wanted
    if present == [ALL]:
        if wanted == "train":
            return ALL
        raise FileNotFoundError(
            f"{root} is not divided, so it has no split '{split}'. --split all evaluates on all of it; "
            f"featlift data convert {root} NEW --val-fraction 0.2 divides it into train and val."
        )
    if wanted == "val" and set(present) == {"train", "test"}:
        return "test"
    raise FileNotFoundError(f"{root} has no split '{split}'; it has {', '.join(present) or 'none'}.")


def find_classes(root: Path, names: Collection[str]) -> list[str]:
    """Class names of a format without a list of them: those of a file of `CLASS_FILES` in ``root`` or a split folder that has all
    ``names``, else ``names``, sorted.
    """
    for folder in (root, *split_folders(root).values()):
        for file in (folder / name for name in CLASS_FILES):
            lines = file.read_text(encoding="utf-8-sig").splitlines() if file.is_file() else []
            listed = [line.split(":")[0].strip() for line in lines if not line.startswith("#")]
            listed = [name for name in listed if name and (name != "background" or name in names)]
            if listed and set(names) <= set(listed):
                return listed
    return sorted(names)
