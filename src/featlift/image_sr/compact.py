"""A small network for laptops and video, which learns a residual to bicubic interpolation. It is not from any of the papers."""

from itertools import pairwise

from torch import Tensor, nn

from featlift.checkpoints.init_args import store_init_args
from featlift.image_sr.bicubic import upsample_bicubic
from featlift.image_sr.blocks import conv3x3


@store_init_args()
class CompactSR(nn.Module):
    """``depth`` 3x3 convolutions at low resolution and one pixel shuffle, added to bicubic interpolation (98,796 parameters at 4x).

    All convolutions run at low resolution, as in ESPCN (Shi et al., CVPR 2016), with PReLUs between them. The last convolution is
    zero-initialized, so an untrained network equals bicubic interpolation.
    """

    def __init__(self, scale: int = 4, depth: int = 9, width: int = 36) -> None:
        super().__init__()
        self.scale = scale
        channels = [3, *[width] * (depth - 1)]
        hidden = [layer for pair in pairwise(channels) for layer in (conv3x3(*pair), nn.PReLU(pair[1]))]
        last = conv3x3(channels[-1], 3 * scale**2)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)  # type: ignore[arg-type]
        self.detail = nn.Sequential(*hidden, last, nn.PixelShuffle(scale))

    def forward(self, low: Tensor) -> Tensor:
        """``[B, 3, H, W]`` in 0…1 → ``[B, 3, scale·H, scale·W]``, not clamped."""
        return upsample_bicubic(low, self.scale) + self.detail(low)
