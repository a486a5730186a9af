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

from featlift.data.coco import CocoDataset, find_coco_split
from featlift.data.dataset import ImageDataset
from featlift.data.problems import DatasetReport
from featlift.data.synthetic.scenes import SyntheticScenes

SIZE_RANGES = {"tiny": (0, 16), "small": (16, 32), "medium": (32, 96), "large": (96, float("inf"))}
"""Sizes of objects: the root of the area in pixels, from … up to. COCO's, with its small divided at 16."""


def write_synthetic_dataset(
    folder: str | PathLike[str],
    num_train: int = 400,
    num_val: int = 100,
    image_size: tuple[int, int] = (160, 160),
    seed: int = 0,
) -> dict[str, SyntheticScenes]:
    """Write procedural scenes as a COCO folder with the splits "train" and "val", and return them. Errors as in
    `export_coco`.
    """
    splits = {
        "train": SyntheticScenes(num_train, image_size, seed),
        "val": SyntheticScenes(num_val, image_size, seed, first_index=num_train),
    }
    write_coco_dataset(splits, folder)
    return splits


def write_coco_dataset(splits: Mapping[str, ImageDataset], folder: str | PathLike[str]) -> None:
    """Write each split as ``instances_<split>.json`` and ``<split>/`` with its pictures as PNG, as
    `featlift.data.coco.open_coco_split` reads.

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
            _write_split(dataset, unfinished, split)
        unfinished.chmod(0o755)
        unfinished.replace(folder)
    except BaseException:
        shutil.rmtree(unfinished)
        raise


def _write_split(dataset: ImageDataset, folder: Path, split: str) -> None:
    truth = dataset.coco()
    (folder / split).mkdir()
    for index, image in enumerate(truth["images"]):
        image["file_name"] = f"{Path(image['file_name']).stem}.png"
        pixels = (dataset[index][0] * 255).round().byte().permute(1, 2, 0).numpy()
        Image.fromarray(np.ascontiguousarray(pixels)).save(folder / split / image["file_name"])
    (folder / f"instances_{split}.json").write_text(json.dumps(truth), encoding="utf-8")


@dataclass
class SplitStatistics:
    """What there is in one split: the report of its reading, objects per class, and objects per size of `BINS`.
    ``print`` it.
    """

    split: str
    report: DatasetReport
    objects_per_class: dict[str, int] = field(default_factory=dict)
    objects_per_size: dict[str, int] = field(default_factory=dict)

    @property
    def is_clean(self) -> bool:
        """Whether nothing at all is wrong."""
        return not self.report.problems

    def __str__(self) -> str:
        return "\n".join([
            f"{self.split}: {self.report}",
            "  classes: " + ", ".join(f"{name} {number}" for name, number in self.objects_per_class.items()),
            "  sizes: " + ", ".join(f"{name} {number}" for name, number in self.objects_per_size.items()),
        ])  # fmt: skip


def check_coco_dataset(root: str | PathLike[str]) -> dict[str, SplitStatistics]:
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
            found[split] = find_coco_split(root, split)
        except FileNotFoundError as error:
            missing.append(error)
    if not found:
        raise missing[0]
    return {
        split: compute_split_statistics(split, CocoDataset(*places, skip_broken=True))
        for split, places in found.items()
    }


def compute_split_statistics(split: str, dataset: CocoDataset) -> SplitStatistics:
    """Count the objects of ``dataset`` (crowd regions left out) per class, most frequent first, and per size."""
    objects = [a for a in dataset.coco()["annotations"] if not a["iscrowd"]]
    classes = Counter(dataset.classes[a["category_id"] - 1] for a in objects)
    roots = [a["area"] ** 0.5 for a in objects]
    sizes = {name: sum(low <= root < high for root in roots) for name, (low, high) in SIZE_RANGES.items()}
    return SplitStatistics(split, dataset.report, dict(classes.most_common()), sizes)
