"""Bicubic enlargement: the baseline of every table, and the first step of the networks that refine an enlarged picture.

Keys' kernel with a = -½, as Pillow and MATLAB have it. PyTorch uses it only with ``antialias=True``; without, a = -¾.
"""

from collections.abc import Callable

import torch.nn.functional as nnf
from torch import Tensor, nn

from featlift.checkpoints.init_args import store_init_args

_LUMA_WEIGHTS = (65.481 / 255, 128.553 / 255, 24.966 / 255)  # ITU-R BT.601, studio range: Y = 16/255 + these · RGB
_LUMA_OFFSET = 16 / 255
_LUMA_RANGE = 219 / 255


def upsample_bicubic(low: Tensor, scale: int) -> Tensor:
    """``low [B, C, H, W]`` as ``[B, C, scale·H, scale·W]``; values may leave 0…1 a little at edges.

    Computed in float32, for PyTorch has no antialiased bicubic in half precision on CPUs.
    """
    size = (low.shape[-2] * scale, low.shape[-1] * scale)
    return nnf.interpolate(low.float(), size=size, mode="bicubic", align_corners=False, antialias=True).to(low.dtype)


def studio_luma(images: Tensor) -> Tensor:
    """The Y of YCbCr (BT.601, 16…235 as 0.063…0.922) of RGB ``images [B, 3, H, W]`` in 0…1, ``[B, 1, H, W]``."""
    return (images * images.new_tensor(_LUMA_WEIGHTS)[:, None, None]).sum(dim=1, keepdim=True) + _LUMA_OFFSET


def apply_to_luma(refine: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """``images [B, 3, H, W]`` with their Y replaced by ``refine(Y)``, Cb and Cr as they were.

    With the chroma fixed, a change of Y changes red, green and blue alike, so the inverse matrix is never needed.
    """
    before = studio_luma(images)
    return images + (refine(before) - before) / _LUMA_RANGE


@store_init_args()
class BicubicSR(nn.Module):
    """``scale`` times as many rows and columns, no parameters."""

    def __init__(self, scale: int = 4) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, low: Tensor) -> Tensor:
        """``[B, 3, H, W]`` in 0…1 → ``[B, 3, scale·H, scale·W]`` in 0…1."""
        return upsample_bicubic(low, self.scale).clamp(0, 1)
