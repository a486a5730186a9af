"""Write datasets as COCO folders, and validate COCO folders."""

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
from featlift.data.object_sizes import AREA_BINS, area_bin_of
from featlift.data.problems import DatasetReport
from featlift.data.synthetic.scenes import SyntheticScenes


def write_synthetic_dataset(
    folder: str | PathLike[str],
    num_train: int = 400,
    num_val: int = 100,
    image_size: tuple[int, int] = (160, 160),
    seed: int = 0,
) -> dict[str, SyntheticScenes]:
    """Write procedural scenes as a COCO folder with the splits "train" and "val", and return the datasets.

    Raises:
        FileExistsError: If ``folder`` exists and is not empty.
    """
    splits = {
        "train": SyntheticScenes(num_train, image_size, seed),
        "val": SyntheticScenes(num_val, image_size, seed, first_index=num_train),
    }
    write_coco_dataset(splits, folder)
    return splits


def write_coco_dataset(splits: Mapping[str, ImageDataset], folder: str | PathLike[str]) -> None:
    """Write each split as ``instances_<split>.json`` and ``<split>/*.png``, the layout that
    `featlift.data.coco.open_coco_split` reads.

    The folder is created atomically: it appears when all files are written.

    Raises:
        FileExistsError: If ``folder`` exists and is not empty.
    """
    folder = Path(folder)
    if folder.exists() and any(folder.iterdir()):
        raise FileExistsError(f"{folder} is not empty. Choose another folder, or remove it first.")
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
    """Statistics of a split: the report of its reading, objects per class, and objects per size of `AREA_BINS`.

    ``str()`` formats them for printing.
    """

    split: str
    report: DatasetReport
    objects_per_class: dict[str, int] = field(default_factory=dict)
    objects_per_size: dict[str, int] = field(default_factory=dict)

    def __str__(self) -> str:
        return "\n".join([
            f"{self.split}: {self.report}",
            "  classes: " + ", ".join(f"{name} {number}" for name, number in self.objects_per_class.items()),
            "  sizes: " + ", ".join(f"{name} {number}" for name, number in self.objects_per_size.items()),
        ])  # fmt: skip


def check_coco_dataset(root: str | PathLike[str]) -> dict[str, SplitStatistics]:
    """Decode every image of the splits "train" and "val" of a COCO folder and validate every annotation.

    Raises:
        FileNotFoundError: If neither split exists; names the expected files.
        DatasetError: If a JSON file is not in COCO's format, or none of its images is usable.
    """
    root = Path(root)
    splits, errors = {}, []
    for split in ("train", "val"):
        try:
            splits[split] = find_coco_split(root, split)
        except FileNotFoundError as error:
            errors.append(error)
    if not splits:
        raise errors[0]
    return {
        split: compute_split_statistics(split, CocoDataset(*paths, skip_broken=True)) for split, paths in splits.items()
    }


def compute_split_statistics(split: str, dataset: CocoDataset) -> SplitStatistics:
    """Count the objects of ``dataset`` without crowd regions, per class (most frequent first) and per size."""
    objects = [a for a in dataset.coco()["annotations"] if not a["iscrowd"]]
    names = dict(zip(dataset.category_ids, dataset.classes, strict=True))
    per_class = Counter(names[a["category_id"]] for a in objects)
    per_size = Counter(area_bin_of(a["area"]) for a in objects)
    return SplitStatistics(
        split, dataset.report, dict(per_class.most_common()), {name: per_size[name] for name in AREA_BINS}
    )
