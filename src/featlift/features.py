"""`Features`, the one type that runs through the library: named maps of one batch of images.

Names are the papers': ``c2 … c5`` from a backbone, ``p2 … p7`` from a pyramid, ``"image"``, ``"fc7"``. The number is the base-2
logarithm of the stride, so ``p3`` has one cell for every 8x8 pixels. An ``x`` behind the number marks EFPN's extended levels, which are
twice as fine as their number says: ``p2x`` has stride 2.
"""

import re

import torch.nn.functional as nnf
from torch import Tensor

Features = dict[str, Tensor]
"""Named maps, fine → coarse: ``"p3"`` → ``[B, C, H/8, W/8]``."""

_LEVEL_NAME = re.compile(r"^[cp](\d+)(x?)$")


def level_stride(level: str) -> int:
    """Pixels of the image per cell of the map called ``level`` (``"p3"`` → 8, ``"p2x"`` → 2).

    Raises:
        ValueError: if ``level`` is not ``c`` or ``p``, a number, and perhaps ``x``.
    """
    found = _LEVEL_NAME.match(level)
    if not found:
        raise ValueError(
            f"'{level}' is not the name of a level: expected c2 … c5, p2 … p7 or, for an extended level, p2x."
        )
    return 2 ** int(found[1]) // (2 if found[2] else 1)


def crop_or_pad(x: Tensor, size: tuple[int, int]) -> Tensor:
    """``x [B, C, H, W]`` as ``[B, C, *size]``, aligned at the top left; never resized.

    A doubled map that is a row or column too large (odd sizes) loses it. One that is too small (a backbone that rounds odd sizes down)
    has its last row or column repeated. All padding in this library is at the bottom and right, so cells keep their place in the image.

    Raises:
        ValueError: if the sizes differ by more than one cell: then the maps are not one doubling apart.
    """
    height, width = size
    if abs(height - x.shape[-2]) > 1 or abs(width - x.shape[-1]) > 1:
        raise ValueError(
            f"A map of {x.shape[-2]}x{x.shape[-1]} cells cannot be fitted onto {height}x{width}: they may differ by one cell. "
            "Neighboring levels of a pyramid must be one doubling apart (strides 4, 8, 16, 32)."
        )
    x = x[..., :height, :width]
    missing = (0, width - x.shape[-1], 0, height - x.shape[-2])
    return nnf.pad(x, missing, mode="replicate") if any(missing) else x


def crop_to_match(a: Features, b: Features) -> tuple[Features, Features]:
    """The levels that ``a`` and ``b`` share, each cut to the smaller height and width of the two, keeping the top left.

    Two views of one picture that were padded apart have maps which differ by a few cells at the bottom and right
    (AFI-GAN, Sec. 4.1; sides of 800 give 200 and 208 cells at p2).

    Raises:
        ValueError: if no level is shared.
    """
    levels = [name for name in a if name in b]
    if not levels:
        raise ValueError(f"No level is in both: the first has {sorted(a)}, the second {sorted(b)}.")
    cut_a, cut_b = {}, {}
    for name in levels:
        height = min(a[name].shape[-2], b[name].shape[-2])
        width = min(a[name].shape[-1], b[name].shape[-1])
        cut_a[name], cut_b[name] = a[name][..., :height, :width], b[name][..., :height, :width]
    return cut_a, cut_b
