"""Masks as images: next to ``images``, a folder ``masks`` with one PNG per image or per object.

* ``masks/NAME.png``: every pixel value except 0 is one object of the class "object".
* ``masks/CLASS/NAME.png``: the same for each class.
* ``NAME/images/NAME.png`` with ``NAME/masks/*.png`` (Data Science Bowl 2018): every mask file is one object.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from featlift.data.formats.split_source import DocumentBuilder, SplitSource, relative_name
from featlift.data.formats.splits import choose_split, find_classes, split_folders
from featlift.data.image_io import list_images
from featlift.data.masks import mask_to_rle

DEFAULT_CLASS = "object"
MASK_SUFFIXES = (".png", ".tif", ".tiff", ".bmp", ".gif")
"""Suffixes of mask files; JPEG changes values."""
IMAGE_FOLDERS = ("images", "PNGImages", "JPEGImages", "imgs")
MASK_FOLDERS = ("masks", "PedMasks", "Masks")


def is_mask_images(root: Path) -> bool:
    """Whether ``root`` or its split folders have folders of images and of masks."""
    return any(_has_masks(folder) or _object_folders(folder) for folder in split_folders(root).values())


def list_mask_splits(root: Path) -> list[str]:
    """Splits of ``root``: its subfolders named after splits, else "all"."""
    return list(split_folders(root))


def read_mask_split(root: Path, split: str) -> SplitSource:
    """Read the ``split`` of ``root``; the classes are `find_classes` of the folders in ``masks`` of all splits.

    Raises:
        FileNotFoundError: If there is no such split or it has no image.
    """
    folders = split_folders(root)
    folder = folders[choose_split(root, split, folders)]
    class_folders = [path for each in folders.values() for path in _class_folders(each)]
    builder = DocumentBuilder(
        "masks", root, root, find_classes(root, {path.name for path in class_folders} or {DEFAULT_CLASS})
    )
    if _has_masks(folder):
        _add_mask_folder(builder, folder)
    for image_folder in _object_folders(folder):
        _add_object_folder(builder, image_folder)
    return builder.build()


def _subfolder(folder: Path, names: tuple[str, ...]) -> Path | None:
    return next((folder / name for name in names if (folder / name).is_dir()), None)


def _has_masks(folder: Path) -> bool:
    return bool(_subfolder(folder, MASK_FOLDERS) and _subfolder(folder, IMAGE_FOLDERS))


def _class_folders(folder: Path) -> list[Path]:
    masks = _subfolder(folder, MASK_FOLDERS)
    return sorted(path for path in masks.iterdir() if path.is_dir()) if masks else []


def _object_folders(folder: Path) -> list[Path]:
    """Folders of single images with their masks, as in the Data Science Bowl 2018."""
    if _has_masks(folder) or not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.is_dir() and _has_masks(path))


def _add_mask_folder(builder: DocumentBuilder, folder: Path) -> None:
    image_folder, mask_folder = _subfolder(folder, IMAGE_FOLDERS), _subfolder(folder, MASK_FOLDERS)
    assert image_folder
    assert mask_folder
    places = {path.name: path for path in _class_folders(folder)} or {DEFAULT_CLASS: mask_folder}
    used: set[Path] = set()
    num_unlabeled = 0
    for path in list_images(image_folder):
        image = builder.add_image(path)
        stem = path.relative_to(image_folder).with_suffix("")
        found = {name: _find_mask(place / stem) for name, place in places.items()}
        used |= {mask for mask in found.values() if mask}
        num_unlabeled += not any(found.values())
        for name, mask in found.items() if image else ():
            if mask:
                _add_mask(builder, image or {}, builder.classes.index(name), mask)
    if num_unlabeled:
        builder.source.notes.append(
            f"{num_unlabeled} images have no mask file: they are read as images without objects"
        )
    for path in sorted({path for place in places.values() for path in _list_masks(place)} - used):
        location = relative_name(path, builder.source.file)
        builder.add_problem(location, "mask without image", f"there is no image of this name in {image_folder}")


def _find_mask(stem: Path) -> Path | None:
    """Mask file of the image of the same stem, also with the ending ``_mask`` (Penn-Fudan)."""
    names = (f"{stem.name}{end}{suffix}" for end in ("", "_mask") for suffix in MASK_SUFFIXES)
    return next((path for path in map(stem.with_name, names) if path.is_file()), None)


def _list_masks(folder: Path) -> list[Path]:
    return [
        path for path in folder.rglob("*") if path.suffix.lower() in MASK_SUFFIXES and not path.name.startswith("._")
    ]


def _add_object_folder(builder: DocumentBuilder, folder: Path) -> None:
    images, masks = _subfolder(folder, IMAGE_FOLDERS), _subfolder(folder, MASK_FOLDERS)
    assert images
    assert masks
    for path in list_images(images)[:1]:
        image = builder.add_image(path)
        for mask in sorted(_list_masks(masks)) if image else ():
            _add_mask(builder, image or {}, 0, mask, is_one_object=True)


def _add_mask(
    builder: DocumentBuilder, image: dict[str, Any], label: int, path: Path, is_one_object: bool = False
) -> None:
    location = relative_name(path, builder.source.file)
    try:
        values = read_mask_values(path)
    except (OSError, UnidentifiedImageError, SyntaxError, Image.DecompressionBombError) as error:
        builder.add_broken_object(image, location, "broken mask", f"it cannot be read ({error})")
        return
    if values.shape != (image["height"], image["width"]):
        message = f"it has {values.shape[1]}x{values.shape[0]} pixels, the image has {image['width']}x{image['height']}"
        builder.add_broken_object(image, location, "mask size mismatch", message)
        return
    if is_one_object and not values.any():
        builder.add_broken_object(image, location, "empty mask", "it covers no pixel")
    for value, mask in _split_objects((values > 0).astype(np.uint8) if is_one_object else values):
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        box = (float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1))
        builder.add_object(image, label, box, mask_to_rle(mask), f"{location}, value {value}")


def read_mask_values(path: Path) -> NDArray[np.int64]:
    """Pixel values ``[H, W]`` of a mask file: gray levels, palette indices, or ``R·65536 + G·256 + B`` of a color image."""
    with Image.open(path) as image:
        if image.mode in ("RGB", "RGBA"):
            red, green, blue = np.moveaxis(np.asarray(image.convert("RGB"), dtype=np.int64), 2, 0)
            return red * 65536 + green * 256 + blue
        return np.asarray(image.convert("L") if image.mode in ("LA", "CMYK") else image).astype(np.int64)


def _split_objects(values: NDArray[Any]) -> Iterator[tuple[int, NDArray[np.bool_]]]:
    for value in np.unique(values):
        if value:
            yield int(value), values == value
