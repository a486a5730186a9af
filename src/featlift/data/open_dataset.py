"""What ``--data`` names: a folder in COCO's form, or Tsinghua-Tencent 100K."""

from os import PathLike
from pathlib import Path

from featlift.data.coco import open_coco_split
from featlift.data.dataset import ImageDataset
from featlift.data.tt100k import TT100K_RELEASES, TT100KDataset

TT100K_SPLITS = {"train": "learned", "val": "test"}
"""Our splits → TT100K's: what it calls train is learned from but for the part that is held out to choose a score limit."""


def open_dataset(root: str | PathLike[str], split: str, skip_broken: bool = False) -> ImageDataset:
    """The ``split`` ("train", "val", or TT100K's own) of ``root``.

    ``root`` is a folder in COCO's form, TT100K's folder, or TT100K's json, which says which release is meant where there are two.

    Raises:
        FileNotFoundError: saying what was looked for and what is there.
        BrokenData: see `featlift.data.coco.CocoDataset`.
        ValueError: see `featlift.data.tt100k.TT100KDataset`.
    """
    folder, release = _find_release(Path(root))
    if release or any((folder / file).is_file() for file in TT100K_RELEASES.values()):
        return TT100KDataset(folder, TT100K_SPLITS.get(split, split), release)
    return open_coco_split(root, split, skip_broken)


def _find_release(root: Path) -> tuple[Path, str]:
    """TT100K's folder and release, if its json is named; ``root`` and nothing for all else."""
    releases = {file: release for release, file in TT100K_RELEASES.items()}
    return (root.parent, releases[root.name]) if root.name in releases and root.is_file() else (root, "")
