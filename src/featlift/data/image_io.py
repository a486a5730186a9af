"""List image files, and read them, of any mode, as upright RGB ``[3, H, W]`` in 0…1."""

import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor
from torchvision.transforms.v2.functional import crop

ImageSize = tuple[int, int]
"""Height and width."""
CropBox = tuple[float, float, float, float]
"""Left, top, right and bottom edge, in pixels."""

WRITTEN_FILE = ".featlift-files"
"""List of the files that ``featlift predict`` has written into a folder, one relative path per line."""
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
MAX_PIXELS = 178_956_970
"""Default limit of the pixels of an image, against files that decompress to more than the memory holds; Pillow's limit."""

_ORIENTATION = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE, 8: Image.Transpose.ROTATE_90,
}  # fmt: skip
"""EXIF orientation → what turns the stored image upright (CIPA DC-008, Sec. 4.6.5)."""
_INVERSE_TURNS = _TURNS | {6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}
_ALPHA = ("RGBA", "LA", "PA", "La", "RGBa")
_FLOAT_RANGES = (1.0, 255.0, 65535.0)
_PILLOW_LIMIT = threading.Lock()


class ImageReadError(ValueError):
    """An image file cannot be read."""


def list_images(folder: str | PathLike[str]) -> list[Path]:
    """Image files in ``folder`` and its subfolders, sorted by path.

    Hidden files, such as the ``._1.jpg`` of macOS, and images that ``featlift predict`` has written are skipped with a warning.

    Raises:
        FileNotFoundError: If the folder is missing or contains no image.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"There is no folder {folder}.")
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file())
    hidden = [path for path in files if any(part.startswith(".") for part in path.relative_to(folder).parts)]
    written = _list_written(folder)
    written_images = [path for path in files if path in written]
    _warn_of_skipped(hidden, folder, "hidden files")
    _warn_of_skipped(written_images, folder, "images that 'featlift predict' has written")
    files = [path for path in files if path not in {*hidden, *written_images}]
    if not files:
        raise FileNotFoundError(f"'{folder}' contains no image ({', '.join(IMAGE_SUFFIXES)}).")
    return files


def _list_written(folder: Path) -> set[Path]:
    """Files below ``folder`` that the lists `WRITTEN_FILE` name."""
    lists = folder.rglob(WRITTEN_FILE)
    return {file.parent / os.fsdecode(name) for file in lists for name in file.read_bytes().splitlines()}


def _warn_of_skipped(files: list[Path], folder: Path, what: str) -> None:
    if files:
        names = ", ".join(str(path.relative_to(folder)) for path in files[:3]) + (", …" if len(files) > 3 else "")
        warnings.warn(f"{folder}: {len(files)} {what} are skipped: {names}.", stacklevel=3)


def read_image_sizes(path: Path, max_pixels: int = MAX_PIXELS) -> list[ImageSize]:
    """Size after the EXIF rotation, followed by the stored size if they differ. Only the header is read.

    Raises:
        ImageReadError: If the file is not an image, or has more than ``max_pixels`` pixels.
    """
    with _open_image(path, max_pixels, "is not a readable image") as image:
        size = (image.height, image.width)
        turned = (image.width, image.height)
        if read_orientation(image) < 5:
            return [size]
        return [size, turned] if image.format == "TIFF" else [turned, size]  # Pillow turns TIFF's size itself


def read_orientation(image: Image.Image) -> int:
    """EXIF orientation 1…8 in the header of ``image``; 1 if there is none or it is no number."""
    if image.format == "PNG" and "exif" not in image.info:
        return 1  # Pillow would decode the whole image to find its EXIF data
    value = image.getexif().get(_ORIENTATION, 1)
    return value if value in _TURNS else 1


def is_rotated(file: Any) -> bool:
    """Whether the EXIF orientation of an image file turns or mirrors its stored pixels. Only the header is read."""
    with _without_pillow_limit(file) as image:
        return read_orientation(image) != 1


def read_image(path: Path, size: ImageSize | None = None, max_pixels: int = MAX_PIXELS) -> Tensor:
    """Image ``[3, H, W]``, float32 in 0…1. Gray, palette, 16-bit and CMYK images become RGB; transparent pixels are
    composited onto white. 16-bit and integer images are divided by 65535, float images by the first of 1, 255 and 65535
    that their values do not exceed.

    The image is rotated by its EXIF orientation, unless only the stored image has ``size`` (height, width): then its
    boxes refer to the stored image.

    Raises:
        ImageReadError: If the file is truncated, not an image, or has more than ``max_pixels`` pixels.
    """
    with _open_image(path, max_pixels, "is broken or truncated") as image:
        return _to_rgb_tensor(_load_oriented(image, size))


def read_reduced_image(
    path: Path, min_size: ImageSize, max_pixels: int = MAX_PIXELS, size: ImageSize | None = None
) -> Tensor:
    """Image as by `read_image`, a JPEG file decoded at 1/2, 1/4 or 1/8 of its size: the smallest at which the image still has
    ``min_size`` (height, width). Pixel values differ slightly from those of the resized image; other files are decoded in full.

    Raises:
        ImageReadError: as `read_image`.
    """
    with _open_image(path, max_pixels, "is broken or truncated") as image:
        orientation, stored = read_orientation(image), (image.height, image.width)
        keep_stored = stored == size != (stored if orientation < 5 else stored[::-1])
        height, width = min_size if orientation < 5 or keep_stored else min_size[::-1]
        image.draft(None, (width, height))  # only JPEG has drafts
        if (image.height, image.width) == stored:
            return _to_rgb_tensor(_load_oriented(image, size))
        image.load()
        return _to_rgb_tensor(image if keep_stored or orientation == 1 else image.transpose(_TURNS[orientation]))


@contextmanager
def _open_image(path: Path, max_pixels: int, problem: str) -> Iterator[Image.Image]:
    """Open an image; any error of the decoder, in the body too, names the file: damaged headers raise errors of all types."""
    try:
        with _without_pillow_limit(path) as image:
            if image.width * image.height > max_pixels:
                raise ImageReadError(
                    f"{path} has {image.width}x{image.height} = {image.width * image.height / 1e6:.0f} million pixels, above the limit of "
                    f"{max_pixels / 1e6:.0f} million; --max-pixels {image.width * image.height} (max_pixels) reads it."
                )
            yield image
    except ImageReadError:
        raise
    except FileNotFoundError as error:
        raise ImageReadError(f"{path} does not exist.") from error
    except Exception as error:
        raise ImageReadError(f"{path} {problem} ({error}).") from error


def _without_pillow_limit(path: Any) -> Image.Image:
    """Open an image file: a path, or an object with ``open("rb")``, such as an image in a Hugging Face dataset."""
    with _PILLOW_LIMIT:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            return Image.open(path if isinstance(path, (str, PathLike)) else path.open("rb"))
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def _load_oriented(image: Image.Image, size: ImageSize | None) -> Image.Image:
    """Decode ``image``, upright, or as stored if only then it has ``size``."""
    orientation = read_orientation(image)
    image.load()
    is_upright = image.format == "TIFF"  # Pillow turns TIFF itself
    if not is_upright:
        orientation = read_orientation(image)  # PNG may have its EXIF data after the pixels
    image = image.copy() if is_upright else image  # after Pillow has turned a TIFF, only a copy has the right size
    if orientation not in _TURNS:
        return image
    stored = image.transpose(_INVERSE_TURNS[orientation]) if is_upright else image
    upright = image if is_upright else image.transpose(_TURNS[orientation])
    keep_stored = (stored.height, stored.width) == size != (upright.height, upright.width)
    return stored if keep_stored else upright


def read_image_crop(path: Path, box: CropBox | None = None, max_pixels: int = MAX_PIXELS) -> Tensor:
    """Image as by `read_image`, cropped to ``box``, rounded to whole pixels, if given; black where the box exceeds the image."""
    image = read_image(path, None, max_pixels)
    if box is None:
        return image
    left, top, right, bottom = (round(edge) for edge in box)
    return crop(image, top, left, bottom - top, right - left)


def to_image_tensor(image: Any) -> Tensor:
    """Image in memory as ``[3, H, W]`` float32 in 0…1: a PIL image of any mode, which its EXIF orientation turns, an RGB or gray array
    ``[H, W, 3]`` or ``[H, W]`` of uint8, or a tensor ``[3, H, W]`` of uint8 or of floats in 0…1.

    Raises:
        ImageReadError: If it is none of these.
    """
    if isinstance(image, Image.Image):
        return _to_rgb_tensor(ImageOps.exif_transpose(image))
    if isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.ndim in (2, 3):
        return _to_rgb_tensor(Image.fromarray(image))
    if isinstance(image, Tensor) and image.ndim == 3 and len(image) == 3:
        pixels = image.float() / 255 if image.dtype == torch.uint8 else image.float()
        if 0 <= pixels.min() <= pixels.max() <= 1:
            return pixels
    form = f"{type(image).__name__} {getattr(image, 'dtype', '')} {list(getattr(image, 'shape', []))}"
    raise ImageReadError(
        f"An image is a PIL image, an RGB array [H, W, 3] of uint8, or a tensor [3, H, W] in 0…1 or of uint8; not {form}."
    )


def _to_rgb_tensor(image: Image.Image) -> Tensor:
    if image.mode.startswith("I"):
        return _gray_tensor(np.asarray(image), 65535.0)
    if image.mode == "F":
        values = np.asarray(image)
        return _gray_tensor(values, _float_range(values))
    if image.mode in _ALPHA or "transparency" in image.info:
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image.convert("RGBA"))
    pixels = np.array(image.convert("RGB"))
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous().float() / 255


def _gray_tensor(values: NDArray[np.generic], white: float) -> Tensor:
    return torch.from_numpy(values.astype(np.float32).clip(0, white) / np.float32(white))[None].repeat(3, 1, 1)


def _float_range(values: NDArray[np.generic]) -> float:
    """Value of white of a float image: the first of 1, 255 and 65535 that no value exceeds."""
    if not np.isfinite(values).all() or values.max() > _FLOAT_RANGES[-1]:
        raise ValueError(f"its float values reach {values.max():g}; they are in 0…1, 0…255 or 0…65535")
    return next(limit for limit in _FLOAT_RANGES if values.max() <= limit)
