"""Write datasets as COCO folders."""

import json
import shutil
import tempfile
from collections.abc import Mapping
from os import PathLike
from pathlib import Path

import numpy as np
from PIL import Image

from featlift.data.dataset import ImageDataset
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
