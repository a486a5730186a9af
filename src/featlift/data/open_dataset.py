"""Open the dataset of the option ``--data``: a COCO folder, Tsinghua-Tencent 100K or PASCAL VOC."""

from os import PathLike
from pathlib import Path

from featlift.data.coco import open_coco_split
from featlift.data.dataset import ImageDataset
from featlift.data.image_io import MAX_PIXELS
from featlift.data.tt100k import TT100K_RELEASES, TT100KDataset
from featlift.data.voc import VocDataset

TT100K_SPLITS = {"train": "train-fit", "val": "test"}
"""FeatLift's split → TT100K's. "train-fit" is TT100K's "train" without the part held out to choose a score threshold."""
VOC_TEST_SPLITS = {"train": "trainval", "val": "test"}
"""FeatLift's split → VOC's, for years with a published test set (VOC2007)."""


def open_dataset(
    root: str | PathLike[str], split: str, skip_broken: bool = False, max_pixels: int = MAX_PIXELS
) -> ImageDataset:
    """Open the ``split`` ("train", "val", or one of TT100K's or VOC's) of ``root``.

    ``root`` is a COCO folder, the folder of TT100K, the JSON file of a TT100K release, which selects the release, or the folder of a
    VOC year (``VOCdevkit/VOC2007``).

    Raises:
        FileNotFoundError: naming the expected and the present files.
        DatasetError: see `featlift.data.coco.CocoDataset`.
        ValueError: see `featlift.data.tt100k.TT100KDataset`.
    """
    folder, release = _find_release(Path(root))
    if release or any((folder / file).is_file() for file in TT100K_RELEASES.values()):
        return TT100KDataset(folder, TT100K_SPLITS.get(split, split), release)
    voc_splits = folder / "ImageSets" / "Main"
    if voc_splits.is_dir():
        has_test = (voc_splits / "test.txt").is_file()
        return VocDataset(folder, VOC_TEST_SPLITS.get(split, split) if has_test else split)
    return open_coco_split(root, split, skip_broken, max_pixels=max_pixels)


def _find_release(root: Path) -> tuple[Path, str]:
    """TT100K's folder and release if ``root`` is its JSON file, else ``root`` and an empty release."""
    releases = {file: release for release, file in TT100K_RELEASES.items()}
    return (root.parent, releases[root.name]) if root.name in releases and root.is_file() else (root, "")
