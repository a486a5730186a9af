"""List image files, and read them, of any mode, as upright RGB ``[3, H, W]`` in 0…1."""

from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from torchvision.transforms.v2.functional import crop

ImageSize = tuple[int, int]
"""Height and width."""
CropBox = tuple[float, float, float, float]
"""Left, top, right and bottom edge, in pixels."""

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm")

_READ_ERRORS = (OSError, UnidentifiedImageError, SyntaxError, Image.DecompressionBombError, ImportError)
"""Errors of Pillow on broken files; where ultralytics is imported, it looks for a plugin first, which may be missing."""
_ORIENTATION = 0x0112
_ALPHA = ("RGBA", "LA", "PA", "La", "RGBa")


class ImageReadError(ValueError):
    """An image file cannot be read."""


def list_images(folder: str | PathLike[str]) -> list[Path]:
    """Image files in ``folder`` and its subfolders, sorted by path.

    Raises:
        FileNotFoundError: If the folder is missing or contains no image.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"There is no folder {folder}.")
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
    if not files:
        raise FileNotFoundError(f"'{folder}' contains no image ({', '.join(IMAGE_SUFFIXES)}).")
    return files


def read_image_sizes(path: Path) -> list[ImageSize]:
    """Size after the EXIF rotation, followed by the stored size if they differ. Only the header is read.

    Raises:
        ImageReadError: If the file is not an image.
    """
    try:
        with _open_image(path) as image:
            stored = (image.height, image.width)
            # Pillow would decode a whole PNG to find its EXIF data
            has_exif = image.format != "PNG" or "exif" in image.info
            is_rotated = has_exif and image.getexif().get(_ORIENTATION, 1) >= 5
    except _READ_ERRORS as error:
        raise ImageReadError(f"{path} is not a readable image ({error}).") from error
    return [(stored[1], stored[0]), stored] if is_rotated else [stored]


def is_rotated(file: Any) -> bool:
    """Whether the EXIF orientation of an image file turns or mirrors its stored pixels. Only the header is read."""
    with _open_image(file) as image:
        has_exif = image.format != "PNG" or "exif" in image.info
        return has_exif and image.getexif().get(_ORIENTATION, 1) not in (0, 1)


def read_image(path: Path, size: ImageSize | None = None) -> Tensor:
    """Image ``[3, H, W]``, float32 in 0…1. Gray, palette, 16-bit and CMYK images become RGB; transparent pixels are
    composited onto white.

    The image is rotated by its EXIF orientation, unless only the stored image has ``size`` (height, width): then its
    boxes refer to the stored image.

    Raises:
        ImageReadError: If the file is truncated or not an image.
    """
    try:
        with _open_image(path) as image:
            image.load()
            upright = ImageOps.exif_transpose(image)
            keep_stored = (image.height, image.width) == size != (upright.height, upright.width)
            return _to_rgb_tensor(image if keep_stored else upright)
    except _READ_ERRORS as error:
        raise ImageReadError(f"{path} is broken or truncated ({error}).") from error


def read_image_crop(path: Path, box: CropBox | None = None) -> Tensor:
    """Image as by `read_image`, cropped to ``box``, rounded to whole pixels, if given; black where the box exceeds the image."""
    image = read_image(path)
    if box is None:
        return image
    left, top, right, bottom = (round(edge) for edge in box)
    return crop(image, top, left, bottom - top, right - left)


def _open_image(file: Any) -> Image.Image:
    """Open an image file: a path, or an object with ``open("rb")``, such as an image in a Hugging Face dataset."""
    return Image.open(file if isinstance(file, (str, PathLike)) else file.open("rb"))


def _to_rgb_tensor(image: Image.Image) -> Tensor:
    if image.mode.startswith("I"):
        gray = np.asarray(image).astype(np.float32).clip(0, 65535) / 65535
        return torch.from_numpy(gray)[None].repeat(3, 1, 1)
    if image.mode in _ALPHA or "transparency" in image.info:
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image.convert("RGBA"))
    pixels = np.array(image.convert("RGB"))
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous().float() / 255
