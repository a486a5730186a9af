"""Open the dataset of the option ``--data``: a folder in any of the formats of `LAYOUTS`, or a dataset registered from Python."""

from collections.abc import Callable
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

from featlift.data.coco import CocoDataset, find_coco_split
from featlift.data.dataset import ImageDataset
from featlift.data.formats.coco_exports import is_coco_export, list_coco_splits, read_coco_export
from featlift.data.formats.hugging_face import is_hugging_face, list_hugging_face_splits, read_hugging_face_split
from featlift.data.formats.labelme import is_labelme, list_labelme_splits, read_labelme_split
from featlift.data.formats.mask_images import is_mask_images, list_mask_splits, read_mask_split
from featlift.data.formats.split_source import SplitSource
from featlift.data.formats.splits import SPLIT_NAMES
from featlift.data.formats.torch_dataset import PREFIX, open_registered
from featlift.data.formats.voc import is_voc, list_voc_splits, read_voc_split
from featlift.data.formats.yolo import find_yolo_file, list_yolo_splits, read_yolo_split
from featlift.data.image_io import MAX_PIXELS
from featlift.data.tt100k import TT100K_RELEASES, TT100KDataset

TT100K_SPLITS = {"train": "train-fit", "val": "test"}
"""FeatLift's split → TT100K's. "train-fit" is TT100K's "train" without the part held out to choose a score threshold."""


@dataclass(frozen=True)
class Layout:
    """A dataset format.

    Attributes:
        name: What it is called in messages.
        is_layout: Whether a folder or file is in this format.
        list_splits: The splits of it.
        read_split: Reads a split of it.
    """

    name: str
    is_layout: Callable[[Path], bool]
    list_splits: Callable[[Path], list[str]]
    read_split: Callable[[Path, str], SplitSource]


LAYOUTS: tuple[Layout, ...] = (
    Layout("YOLO (data.yaml)", lambda root: find_yolo_file(root) is not None, list_yolo_splits, read_yolo_split),
    Layout(
        "Hugging Face (save_to_disk, metadata.jsonl)",
        is_hugging_face,
        list_hugging_face_splits,
        read_hugging_face_split,
    ),
    Layout("COCO JSON with other names (Roboflow, CVAT)", is_coco_export, list_coco_splits, read_coco_export),
    Layout("PASCAL VOC (XML files)", is_voc, list_voc_splits, read_voc_split),
    Layout("masks as images (images/ and masks/)", is_mask_images, list_mask_splits, read_mask_split),
    Layout("LabelMe (JSON files with shapes)", is_labelme, list_labelme_splits, read_labelme_split),
)
"""Formats other than COCO's own layout and TT100K, in the order in which they are tried."""


def open_dataset(
    root: str | PathLike[str],
    split: str,
    skip_broken: bool = False,
    max_pixels: int = MAX_PIXELS,
    load_masks: bool = True,
) -> ImageDataset:
    """Open the ``split`` ("train", "val", "test", or one of TT100K's or VOC's; "all" of a dataset that is not divided) of ``root``.

    ``root`` is a COCO folder, a folder or file in a format of `LAYOUTS`, the folder of TT100K or the JSON file of a TT100K release,
    which selects the release, or the name of a dataset of `featlift.data.formats.torch_dataset.register_dataset`. Without ``load_masks``
    files of annotations are read as boxes only.

    Raises:
        FileNotFoundError: naming the expected and the present files.
        DatasetError: see `featlift.data.coco.CocoDataset`.
        ValueError: see `featlift.data.tt100k.TT100KDataset`.
    """
    if str(root).startswith(PREFIX):
        return open_registered(str(root), split)
    folder, release = _find_release(Path(root))
    if _is_tt100k(Path(root)):
        return TT100KDataset(folder, TT100K_SPLITS.get(split, split), release)
    return CocoDataset.from_source(open_split_source(folder, split), skip_broken, load_masks, max_pixels)


def is_dataset(root: str | PathLike[str]) -> bool:
    """Whether `open_dataset` recognizes ``root`` as a dataset with annotations."""
    if str(root).startswith(PREFIX) or _is_tt100k(Path(root)):
        return True
    try:
        return bool(list_splits(root))
    except FileNotFoundError:
        return False


def locate_split(root: str, val_root: str, split: str) -> tuple[str, str]:
    """Dataset and its split that are ``split``: if ``val_root`` is given, "val" is its split "val", or its only one."""
    if split != "val" or not val_root:
        return root, split
    if val_root.startswith(PREFIX) or _is_tt100k(Path(val_root)):
        return val_root, split
    splits = list_splits(val_root)
    return val_root, splits[0] if len(splits) == 1 else split


def open_split_source(root: Path, split: str) -> SplitSource:
    """Read the annotations of ``split`` of the folder or file ``root``, in COCO's layout or in a format of `LAYOUTS`.

    Raises:
        FileNotFoundError: naming the expected and the present files.
        DatasetError: If the annotations cannot be read.
    """
    try:
        annotation_file, image_folder = find_coco_split(root, split)
        return SplitSource("coco", annotation_file, image_folder)
    except FileNotFoundError as error:
        layout = find_layout(root)
        if layout is None:
            names = ", ".join(layout.name for layout in LAYOUTS)
            raise FileNotFoundError(f"{error} Other formats: {names}.") from error
    return layout.read_split(root, split)


def find_layout(root: Path) -> Layout | None:
    """Return the first of `LAYOUTS` in which ``root`` is; None if there is none."""
    return next((layout for layout in LAYOUTS if layout.is_layout(root)), None) if root.exists() else None


def list_splits(root: str | PathLike[str]) -> list[str]:
    """Return the splits of the folder or file ``root`` in COCO's layout or a format of `LAYOUTS`: "train", "val", "test" or "all".

    Raises:
        FileNotFoundError: If it has none; names the expected and the present files.
    """
    root, found, errors = Path(root), [], []
    for split in SPLIT_NAMES:
        try:
            find_coco_split(root, split)
            found.append(split)
        except FileNotFoundError as error:
            errors.append(error)
    layout = None if found else find_layout(root)
    if layout is None and not found:
        names = ", ".join(each.name for each in LAYOUTS)
        raise FileNotFoundError(f"{errors[0]} Other formats: {names}.")
    return found or (layout.list_splits(root) if layout else [])


def _find_release(root: Path) -> tuple[Path, str]:
    """TT100K's folder and release if ``root`` is its JSON file, else ``root`` and an empty release."""
    releases = {file: release for release, file in TT100K_RELEASES.items()}
    return (root.parent, releases[root.name]) if root.name in releases and root.is_file() else (root, "")


def _is_tt100k(root: Path) -> bool:
    folder, release = _find_release(root)
    return bool(release) or any((folder / file).is_file() for file in TT100K_RELEASES.values())
