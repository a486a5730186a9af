"""Convert datasets between formats."""

import random
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from os import PathLike
from pathlib import Path

from featlift.data.dataset import ImageDataset
from featlift.data.formats.export import ExportSplit, Losses, collect_splits
from featlift.data.formats.splits import ALL
from featlift.data.formats.write_boxes import write_coco, write_hugging_face, write_voc
from featlift.data.formats.write_masks import write_labelme, write_mask_images, write_yolo
from featlift.data.image_io import MAX_PIXELS
from featlift.data.open_dataset import list_splits, open_dataset
from featlift.registry import look_up

Writer = Callable[[Mapping[str, ExportSplit], Path, Losses], None]

WRITERS: dict[str, Writer] = {
    "coco": write_coco,
    "yolo": write_yolo,
    "voc": write_voc,
    "labelme": write_labelme,
    "masks": write_mask_images,
    "hugging-face": write_hugging_face,
}
"""Format → function that writes splits in it."""
WITHOUT_IDS = {"yolo": "image ids, category ids", "hugging-face": "category ids"} | dict.fromkeys(
    ("voc", "labelme", "masks"), "image ids, category ids"
)
"""Format → what it cannot store of any dataset."""


def convert_dataset(
    source: str | PathLike[str],
    folder: str | PathLike[str],
    to: str = "coco",
    val_fraction: float = 0.0,
    skip_broken: bool = False,
    seed: int = 0,
    max_pixels: int = MAX_PIXELS,
) -> list[str]:
    """Write the dataset ``source``, in any format that `open_dataset` reads, into ``folder`` in the format ``to``.

    Image files are copied unchanged.

    Args:
        source: Folder or file of the dataset.
        folder: New folder; it appears when all files are written.
        to: Format, of `WRITERS`.
        val_fraction: Fraction of the images that become "val", chosen at random, of a dataset that is not divided.
        skip_broken: Leave out entries that cannot be read instead of stopping.
        seed: Random seed of the choice.
        max_pixels: Maximum number of pixels of an image.

    Returns:
        A line for each split that was written, and one for everything that the format cannot store.

    Raises:
        FileExistsError: If ``folder`` exists and is not empty.
        ValueError: If there is no such format, or ``val_fraction`` does not fit the dataset.
        DatasetError: If entries cannot be read and ``skip_broken`` is False.
    """
    writer = look_up(WRITERS, to, "format")
    datasets = {split: open_dataset(source, split, skip_broken, max_pixels) for split in list_splits(source)}
    splits = _divide(collect_splits(datasets), val_fraction, seed)
    losses = Losses()
    with create_folder(folder) as unfinished:
        writer(splits, unfinished, losses)
    lines = [
        f"{split}: {len(content.images)} images, {len(content.objects)} objects" for split, content in splits.items()
    ]
    ids = [f"not stored by {to}: {WITHOUT_IDS[to]}"] if to in WITHOUT_IDS else []
    return [*lines, *_reading_lines(datasets), *losses.lines(), *ids]


def write_coco_dataset(datasets: Mapping[str, ImageDataset], folder: str | PathLike[str]) -> None:
    """Write each split as ``instances_<split>.json`` and ``<split>/``, the layout that `featlift.data.coco.open_coco_split` reads.

    Image files are copied, other images are written as PNG; images of one name in several folders get their folder as prefix.

    Raises:
        FileExistsError: If ``folder`` exists and is not empty.
    """
    with create_folder(folder) as unfinished:
        write_coco(collect_splits(datasets), unfinished, Losses())


@contextmanager
def create_folder(folder: str | PathLike[str]) -> Iterator[Path]:
    """Give an empty folder that becomes ``folder`` at the end, or is removed if there is an error.

    Raises:
        FileExistsError: If ``folder`` exists and is not empty.
    """
    folder = Path(folder)
    if folder.exists() and any(folder.iterdir()):
        raise FileExistsError(f"{folder} is not empty. Choose another folder, or remove it first.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        yield unfinished
        unfinished.chmod(0o755)
        unfinished.replace(folder)
    except BaseException:
        shutil.rmtree(unfinished)
        raise


def _divide(splits: dict[str, ExportSplit], val_fraction: float, seed: int) -> dict[str, ExportSplit]:
    """Name the split of a dataset that is not divided "train", and move ``val_fraction`` of its images to "val"."""
    if ALL not in splits:
        if val_fraction:
            raise ValueError(f"--val-fraction divides a dataset of one split; this one has {', '.join(splits)}.")
        return splits
    whole = splits[ALL]
    if not 0 <= val_fraction < 1 or (val_fraction and len(whole.images) < 2):
        raise ValueError(
            f"--val-fraction is {val_fraction:g} of {len(whole.images)} images; it is at least 0 and below 1."
        )
    if not val_fraction:
        return {"train": whole}
    number = min(max(1, round(val_fraction * len(whole.images))), len(whole.images) - 1)
    chosen = set(random.Random(seed).sample(range(len(whole.images)), number))
    parts = {"train": [i for i in range(len(whole.images)) if i not in chosen], "val": sorted(chosen)}
    return {split: replace(whole, images=[whole.images[i] for i in indices]) for split, indices in parts.items()}


def _reading_lines(datasets: Mapping[str, ImageDataset]) -> list[str]:
    """Notes and invalid entries of the reading, and what became of them, by split."""
    reports = {split: getattr(dataset, "report", None) for split, dataset in datasets.items()}
    return [
        f"{split}: {line}"
        for split, report in reports.items()
        if report
        for line in [*report.notes, *(f"{problem.effect}: {problem}" for problem in report.problems)]
    ]
