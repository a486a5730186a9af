"""Light interpolators: replacements of AFI-GAN's and SRF-GAN's generators at the cost of a memory copy.

Both papers conclude that "the speed can be improved by using a lighter interpolator". These two consist of convolutions, pixel shuffle,
addition and LeakyReLU only, which every runtime and exporter supports. Initially they equal the fixed interpolation of a detector exactly;
`featlift.papers.light` distills a heavy interpolator into them.
"""

import torch.nn.functional as nnf
from torch import Tensor, nn

from featlift.checkpoints.init_args import store_init_args
from featlift.interpolators.initialization import Shortcut, init_weights

LIGHT_NEGATIVE_SLOPE = 0.2


@store_init_args()
class LightInterpolator(nn.Module):
    """Bottleneck interpolator: ``nearest x2 (x) + last(shuffle(grow(conv(reduce(x)))))`` with ``hidden_channels`` inner channels.

    62,912 parameters at 256 channels and 0.087 M multiply-adds per input cell, 1 % of AFI's. The last 1x1 convolution follows the
    shuffle, so that each large map is written only once.

    Args:
        channels: Number of channels C.
        hidden_channels: Channels of the bottleneck.
        init: Initialization: "zero" (exactly the shortcut), "mild" or "official" (see
            :func:`featlift.interpolators.initialization.init_weights`).
        shortcut: Fixed interpolation added to the branch: "nearest" (as in detectors), "bilinear", "bicubic" or "none".
    """

    def __init__(self, channels: int, hidden_channels: int = 32, init: str = "zero", shortcut: str = "nearest"):
        super().__init__()
        self.reduce = nn.Conv2d(channels, hidden_channels, 1)
        self.conv = nn.Conv2d(hidden_channels, hidden_channels, 3, padding=1)
        self.grow = nn.Conv2d(hidden_channels, 4 * hidden_channels, 3, padding=1)
        self.last = nn.Conv2d(hidden_channels, channels, 1)
        self.shortcut = Shortcut(channels, shortcut)
        init_weights(self, init, self.last)

    def forward(self, x: Tensor, guide: Tensor | None = None) -> Tensor:
        """``[B, C, H, W]`` → ``[B, C, 2H, 2W]``; ``guide`` is ignored."""
        y = nnf.leaky_relu(self.reduce(x), LIGHT_NEGATIVE_SLOPE)
        y = nnf.leaky_relu(self.conv(y), LIGHT_NEGATIVE_SLOPE)
        y = nnf.leaky_relu(nnf.pixel_shuffle(self.grow(y), 2), LIGHT_NEGATIVE_SLOPE)
        return self.shortcut(x, self.last(y))


@store_init_args()
class ChannelAgnosticInterpolator(nn.Module):
    """Interpolator with the same filters for every channel, so that one set of weights fits every pyramid.

    Two 3x3 convolutions without biases, 1 → ``hidden_channels`` → 4 (the phases). It is positively homogeneous (``f(a·x) = a·f(x)`` for
    a > 0) and equivariant to permutations of the channels. 360 parameters for any number of channels. It needs memory bandwidth:
    ``hidden_channels`` maps per channel, on a CPU many times the time of nearest interpolation.

    Args:
        channels: Number of channels C; only for the common interpolator signature.
        hidden_channels: Number of filters.
        init: Initialization: "zero" (exactly the shortcut), "mild" or "official".
        shortcut: Fixed interpolation added to the branch: "nearest", "bilinear", "bicubic" or "none".
    """

    def __init__(self, channels: int, hidden_channels: int = 8, init: str = "zero", shortcut: str = "nearest"):
        super().__init__()
        self.first = nn.Conv2d(1, hidden_channels, 3, padding=1, bias=False)
        self.last = nn.Conv2d(hidden_channels, 4, 3, padding=1, bias=False)
        self.shortcut = Shortcut(channels, shortcut)
        init_weights(self, init, self.last)

    def forward(self, x: Tensor, guide: Tensor | None = None) -> Tensor:
        """``[B, C, H, W]`` → ``[B, C, 2H, 2W]``; ``guide`` is ignored."""
        y = nnf.leaky_relu(_shared_depthwise_conv(self.first, x, x.shape[1]), LIGHT_NEGATIVE_SLOPE)
        return self.shortcut(x, nnf.pixel_shuffle(_shared_depthwise_conv(self.last, y, x.shape[1]), 2))


def _shared_depthwise_conv(convolution: nn.Conv2d, x: Tensor, channels: int) -> Tensor:
    """Apply the same convolution to every channel: ``[B, C·in, H, W]`` → ``[B, C·out, H, W]``; faster than channels as batch."""
    return nnf.conv2d(x, convolution.weight.repeat(channels, 1, 1, 1), padding=1, groups=channels)
