"""Writing datasets as COCO folders, and looking such folders over."""

import json
import shutil
import tempfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path

import numpy as np
from PIL import Image

from featlift.data.coco import CocoPictures, find_split
from featlift.data.dataset import Pictures
from featlift.data.problems import Report
from featlift.data.synthetic.scenes import Scenes

BINS = {"tiny": (0, 16), "small": (16, 32), "medium": (32, 96), "large": (96, float("inf"))}
"""Sizes of objects: the root of the area in pixels, from … up to. COCO's, with its small divided at 16."""


def make(
    folder: str | PathLike[str],
    train: int = 400,
    val: int = 100,
    size: tuple[int, int] = (160, 160),
    seed: int = 0,
) -> dict[str, Scenes]:
    """Write procedural scenes as a COCO folder with the splits "train" and "val", and return them. Errors as in
    `export_coco`.
    """
    splits = {"train": Scenes(train, size, seed), "val": Scenes(val, size, seed, first=train)}
    export_coco(splits, folder)
    return splits


def export_coco(splits: Mapping[str, Pictures], folder: str | PathLike[str]) -> None:
    """Write each split as ``instances_<split>.json`` and ``<split>/`` with its pictures as PNG, as
    `featlift.data.coco.open_split` reads.

    The folder appears when all of it is written, and not before.

    Raises:
        FileExistsError: if ``folder`` exists and is not empty.
    """
    folder = Path(folder)
    if folder.exists() and any(folder.iterdir()):
        raise FileExistsError(f"{folder} is not empty. Choose another folder, or remove this one first.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        for split, dataset in splits.items():
            _write(dataset, unfinished, split)
        unfinished.chmod(0o755)
        unfinished.replace(folder)
    except BaseException:
        shutil.rmtree(unfinished)
        raise


def _write(dataset: Pictures, folder: Path, split: str) -> None:
    truth = dataset.coco()
    (folder / split).mkdir()
    for index, image in enumerate(truth["images"]):
        image["file_name"] = f"{Path(image['file_name']).stem}.png"
        pixels = (dataset[index][0] * 255).round().byte().permute(1, 2, 0).numpy()
        Image.fromarray(np.ascontiguousarray(pixels)).save(folder / split / image["file_name"])
    (folder / f"instances_{split}.json").write_text(json.dumps(truth), encoding="utf-8")


@dataclass
class Survey:
    """What there is in one split: the report of its reading, objects per class, and objects per size of `BINS`.
    ``print`` it.
    """

    split: str
    report: Report
    per_class: dict[str, int] = field(default_factory=dict)
    per_size: dict[str, int] = field(default_factory=dict)

    @property
    def sound(self) -> bool:
        """Whether nothing at all is wrong."""
        return not self.report.skipped

    def __str__(self) -> str:
        return "\n".join([
            f"{self.split}: {self.report}",
            "  classes: " + ", ".join(f"{name} {number}" for name, number in self.per_class.items()),
            "  sizes: " + ", ".join(f"{name} {number}" for name, number in self.per_size.items()),
        ])  # fmt: skip


def check(root: str | PathLike[str]) -> dict[str, Survey]:
    """Read the splits "train" and "val" of a COCO folder in full, every picture to its end, and say what there is and
    what is wrong.

    Raises:
        FileNotFoundError: if there is neither split; it says what was looked for.
        BrokenData: if a json is no COCO json, or not one picture of it can be used.
    """
    root = Path(root)
    found, missing = {}, []
    for split in ("train", "val"):
        try:
            found[split] = find_split(root, split)
        except FileNotFoundError as error:
            missing.append(error)
    if not found:
        raise missing[0]
    return {split: survey(split, CocoPictures(*places, skip_broken=True)) for split, places in found.items()}


def survey(split: str, dataset: CocoPictures) -> Survey:
    """Count the objects of ``dataset`` (crowd regions left out) per class, most frequent first, and per size."""
    objects = [a for a in dataset.coco()["annotations"] if not a["iscrowd"]]
    classes = Counter(dataset.classes[a["category_id"] - 1] for a in objects)
    roots = [a["area"] ** 0.5 for a in objects]
    sizes = {name: sum(low <= root < high for root in roots) for name, (low, high) in BINS.items()}
    return Survey(split, dataset.report, dict(classes.most_common()), sizes)
