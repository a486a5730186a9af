"""The learned part of a level that shares the finest head: a guided upsampler of the coarsest map."""

from collections.abc import Sequence

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

from featlift.checkpoints.init_args import store_init_args
from featlift.features import crop_or_pad, spatial_size
from featlift.interpolators import interpolator
from featlift.upgrading.adapters import NotScriptable


class DepthwiseResidualBlock(nn.Module):
    """``x + f(x)`` with f a 1x1, a depthwise and a 1x1 convolution; starts as the identity.

    Args:
        channels: Number of channels C.
        kernel_size: Side of the depthwise convolution, odd.
    """

    def __init__(self, channels: int, kernel_size: int = 5):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(channels, channels, 1),
            nn.SiLU(),
            nn.Conv2d(channels, channels, kernel_size, padding=kernel_size // 2, groups=channels),
            nn.SiLU(),
            nn.Conv2d(channels, channels, 1),
        )
        _init_zero(self.layers[-1])

    def forward(self, x: Tensor) -> Tensor:
        """``[B, C, H, W]`` → ``[B, C, H, W]``."""
        return x + self.layers(x)


@store_init_args()
class GuidedUpsampler(NotScriptable, nn.Module):
    """An interpolator by 2 and a correction of its result by a small network that also sees guides.

    Guides are maps of the size of the result, or finer ones, which are averaged. The correction is a linear function of the small
    network's output and of the interpolated map; it starts at zero, so that the untrained module is its interpolator.

    Args:
        channels: Channels C of the map.
        guide_channels: Channels of each guide.
        name: Interpolator (``featlift.interpolators.INTERPOLATORS``).
        width: Channels of the small network.
        num_blocks: Its residual blocks; 0 means no correction, only the interpolator.
    """

    def __init__(
        self, channels: int, guide_channels: Sequence[int], name: str = "nearest", width: int = 128, num_blocks: int = 3
    ):
        super().__init__()
        self.channels = channels
        self.upsample = interpolator(name, channels)
        self.correction = None
        if num_blocks:
            blocks = [DepthwiseResidualBlock(width) for _ in range(num_blocks)]
            self.correction = nn.Sequential(nn.Conv2d(channels + sum(guide_channels), width, 1), nn.SiLU(), *blocks)
            self.output_layer = nn.Conv2d(width + channels, channels, 1)
            _init_zero(self.output_layer)

    def forward(self, x: Tensor, guides: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
        """``x [B, C, H, W]`` and guides ``[B, C_i, H_i, W_i]`` → ``[B, C, *size]``, with ``size`` (2H or 2H - 1, 2W or 2W - 1)."""
        upsampled = crop_or_pad(self.upsample(x), size)
        if self.correction is None:
            return upsampled
        fitted = [_fit_guide(guide, size) for guide in guides]
        hidden = self.correction(torch.cat([upsampled, *fitted], 1))
        return upsampled + self.output_layer(torch.cat([hidden, upsampled], 1))


def _fit_guide(guide: Tensor, size: tuple[int, int]) -> Tensor:
    """Average 2x2 cells of a guide that is twice as fine as ``size``; crop or pad it by at most one cell."""
    if spatial_size(guide)[0] > size[0] + 1 or spatial_size(guide)[1] > size[1] + 1:
        guide = nnf.avg_pool2d(guide, 2, ceil_mode=True)
    return crop_or_pad(guide, size)


def _init_zero(convolution: nn.Module) -> None:
    for parameter in convolution.parameters():
        nn.init.zeros_(parameter)
