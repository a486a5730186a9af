"""Reading picture files of every mode as ``[3, H, W]`` in 0…1, upright."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

ImageSize = tuple[int, int]
"""Height and width."""

_ORIENTATION = 0x0112
_ALPHA = ("RGBA", "LA", "PA", "La", "RGBa")


class ImageReadError(ValueError):
    """A picture file that cannot be read."""


def read_image_sizes(path: Path) -> list[ImageSize]:
    """The size as a viewer shows the picture, and as it is stored; they differ if a camera noted that it was held
    upright.

    Only the header is read.

    Raises:
        BrokenPicture: if there is no picture in the file.
    """
    try:
        with Image.open(path) as picture:
            stored = (picture.height, picture.width)
            tagged = (
                picture.format != "PNG" or "exif" in picture.info
            )  # else Pillow would read the whole PNG to look for it
            turned = tagged and picture.getexif().get(_ORIENTATION, 1) >= 5
    except (OSError, UnidentifiedImageError, SyntaxError, Image.DecompressionBombError) as error:
        raise ImageReadError(f"{path} is not a picture that can be read ({error}).") from error
    return [stored[::-1], stored] if turned else [stored]


def read_image(path: Path, size: ImageSize | None = None) -> Tensor:
    """The picture ``[3, H, W]``, float32 in 0…1. Gray, palette, 16-bit and CMYK become RGB; what is transparent is
    laid on white.

    It is turned upright as its EXIF data say, unless only the stored picture has ``size`` (height, width): then its
    boxes were drawn on the stored one.

    Raises:
        BrokenPicture: if the file is truncated or no picture.
    """
    try:
        with Image.open(path) as picture:
            picture.load()
            upright = ImageOps.exif_transpose(picture)
            drawn_on_stored = (picture.height, picture.width) == size != (upright.height, upright.width)
            return _to_rgb_tensor(picture if drawn_on_stored else upright)
    except (OSError, UnidentifiedImageError, SyntaxError, Image.DecompressionBombError) as error:
        raise ImageReadError(f"{path} is broken or cut short ({error}).") from error


def _to_rgb_tensor(image: Image.Image) -> Tensor:
    if image.mode.startswith("I"):
        gray = np.asarray(image).astype(np.float32).clip(0, 65535) / 65535
        return torch.from_numpy(gray)[None].repeat(3, 1, 1)
    if image.mode in _ALPHA or "transparency" in image.info:
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image.convert("RGBA"))
    pixels = np.array(image.convert("RGB"))
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous().float() / 255
