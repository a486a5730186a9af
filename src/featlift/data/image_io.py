"""Reading picture files of every mode as ``[3, H, W]`` in 0…1, upright."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

Size = tuple[int, int]
"""Height and width."""

_ORIENTATION = 0x0112
_ALPHA = ("RGBA", "LA", "PA", "La", "RGBa")


class BrokenPicture(ValueError):
    """A picture file that cannot be read."""


def picture_sizes(path: Path) -> list[Size]:
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
        raise BrokenPicture(f"{path} is not a picture that can be read ({error}).") from error
    return [stored[::-1], stored] if turned else [stored]


def read_picture(path: Path, size: Size | None = None) -> Tensor:
    """The picture ``[3, H, W]``, float32 in 0…1. Grey, palette, 16-bit and CMYK become RGB; what is transparent is
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
            return _rgb(picture if drawn_on_stored else upright)
    except (OSError, UnidentifiedImageError, SyntaxError, Image.DecompressionBombError) as error:
        raise BrokenPicture(f"{path} is broken or cut short ({error}).") from error


def _rgb(picture: Image.Image) -> Tensor:
    if picture.mode.startswith("I"):
        grey = np.asarray(picture).astype(np.float32).clip(0, 65535) / 65535
        return torch.from_numpy(grey)[None].repeat(3, 1, 1)
    if picture.mode in _ALPHA or "transparency" in picture.info:
        white = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(white, picture.convert("RGBA"))
    pixels = np.array(picture.convert("RGB"))
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous().float() / 255
