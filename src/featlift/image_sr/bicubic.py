"""Bicubic upsampling: the standard baseline, and the first step of networks that refine an upsampled image.

Keys' kernel with a = -½, as in Pillow and MATLAB. PyTorch uses it only with ``antialias=True``; otherwise a = -¾.
"""

from collections.abc import Callable

import torch.nn.functional as nnf
from torch import Tensor, nn

from featlift.checkpoints.init_args import store_init_args
from featlift.resolution import rgb_to_luma

LUMA_RANGE = 219 / 255
"""Difference of the luma of white and black."""


def upsample_bicubic(low: Tensor, scale: int) -> Tensor:
    """Upsample ``low [B, C, H, W]`` to ``[B, C, scale·H, scale·W]``; values may overshoot 0…1 at edges.

    Computed in float32, since PyTorch has no antialiased bicubic in half precision on CPUs.
    """
    size = (low.shape[-2] * scale, low.shape[-1] * scale)
    return nnf.interpolate(low.float(), size=size, mode="bicubic", align_corners=False, antialias=True).to(low.dtype)


def apply_to_luma(refine: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """Replace the Y of ``images [B, 3, H, W]`` by ``refine(Y)``; Cb and Cr are unchanged.

    With fixed chroma, a change of Y changes red, green and blue equally, so the inverse matrix is not needed.
    """
    luma = rgb_to_luma(images)
    return images + (refine(luma) - luma) / LUMA_RANGE


@store_init_args()
class BicubicSR(nn.Module):
    """Bicubic upsampling by ``scale``, without parameters."""

    def __init__(self, scale: int = 4) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, low: Tensor) -> Tensor:
        """``[B, 3, H, W]`` in 0…1 → ``[B, 3, scale·H, scale·W]`` in 0…1."""
        return upsample_bicubic(low, self.scale).clamp(0, 1)
