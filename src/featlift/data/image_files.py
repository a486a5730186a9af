"""Read many image files one after the other; every command that reads a folder uses this."""

import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path

from torch import Tensor

from featlift.data.image_io import MAX_PIXELS, ImageReadError, read_image


def read_image_files(
    files: Iterable[Path], skip_broken: bool = False, max_pixels: int = MAX_PIXELS
) -> Iterator[tuple[Path, Tensor]]:
    """Yield each file with its image ``[3, H, W]``; a file that cannot be read stops, or is skipped with a warning that names it.

    Raises:
        ImageReadError: If a file cannot be read and ``skip_broken`` is False.
    """
    for file in files:
        try:
            image = read_image(file, None, max_pixels)
        except ImageReadError as error:
            if not skip_broken:
                raise ImageReadError(f"{error} --skip-broken goes on without it.") from error
            warnings.warn(f"skipped: {error}", stacklevel=2)
            continue
        yield file, image
