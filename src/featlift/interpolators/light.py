"""The light interpolators: what AFI-GAN's and SRF-GAN's generators do, at the price of a memory copy.

Both papers close with "the speed can be improved by using a lighter interpolator". These two are made of convolutions, pixel shuffle,
addition and LeakyReLU only, so every runtime and exporter has them. They start as the interpolation that a detector already has, exactly;
`featlift.papers.light` teaches them what a heavy one knows.
"""

import torch.nn.functional as nnf
from torch import Tensor, nn

from featlift.checkpoints.init_args import store_init_args
from featlift.interpolators.initialization import Shortcut, init_weights

LIGHT_NEGATIVE_SLOPE = 0.2


@store_init_args()
class LightInterpolator(nn.Module):
    """``nearest x2 (x) + expand(shuffle(grow(look(reduce(x)))))``: all thinking is done on ``hidden_channels`` channels.

    62,912 parameters at 256 channels and 0.087 M multiply-adds per input cell, a hundredth of AFI's. The last convolution is a 1x1 at the
    doubled size, because widening *after* the shuffle writes each large map once.

    Args:
        channels: C.
        hidden_channels: channels of the bottleneck.
        init: "zero" (default: exactly the shortcut), "mild" or "official" (see
            :func:`featlift.interpolators.initialization.init_weights`).
        shortcut: the fixed interpolation that is corrected: "nearest" (what detectors have), "bilinear", "bicubic" or "none".
    """

    def __init__(self, channels: int, hidden_channels: int = 32, init: str = "zero", shortcut: str = "nearest"):
        super().__init__()
        self.reduce = nn.Conv2d(channels, hidden_channels, 1)
        self.conv = nn.Conv2d(hidden_channels, hidden_channels, 3, padding=1)
        self.grow = nn.Conv2d(hidden_channels, 4 * hidden_channels, 3, padding=1)
        self.last = nn.Conv2d(hidden_channels, channels, 1)
        self.shortcut = Shortcut(channels, shortcut)
        init_weights(self, init, self.last)

    def forward(self, x: Tensor) -> Tensor:
        """``[B, C, H, W]`` → ``[B, C, 2H, 2W]``."""
        y = nnf.leaky_relu(self.reduce(x), LIGHT_NEGATIVE_SLOPE)
        y = nnf.leaky_relu(self.conv(y), LIGHT_NEGATIVE_SLOPE)
        y = nnf.leaky_relu(nnf.pixel_shuffle(self.grow(y), 2), LIGHT_NEGATIVE_SLOPE)
        return self.shortcut(x, self.last(y))


@store_init_args()
class ChannelAgnosticInterpolator(nn.Module):
    """The same small filters for every channel, so that one set of weights serves every pyramid, whatever its channels mean.

    Two 3x3 convolutions, 1 → ``hidden_channels`` → 4 (the phases), without biases: doubling a map does to it the same at every scale
    (``f(a·x) = a·f(x)`` for a > 0) and in every order of the channels. 360 parameters, whatever the number of channels. Its price is
    bandwidth: it writes ``hidden_channels`` maps for each one, many times what nearest interpolation takes on a CPU.

    Args:
        channels: C; taken so that all interpolators are built alike, not needed.
        hidden_channels: filters.
        init: "zero" (default: exactly the shortcut), "mild" or "official".
        shortcut: "nearest", "bilinear", "bicubic" or "none".
    """

    def __init__(self, channels: int, hidden_channels: int = 8, init: str = "zero", shortcut: str = "nearest"):
        super().__init__()
        self.first = nn.Conv2d(1, hidden_channels, 3, padding=1, bias=False)
        self.last = nn.Conv2d(hidden_channels, 4, 3, padding=1, bias=False)
        self.shortcut = Shortcut(channels, shortcut)
        init_weights(self, init, self.last)

    def forward(self, x: Tensor) -> Tensor:
        """``[B, C, H, W]`` → ``[B, C, 2H, 2W]``."""
        y = nnf.leaky_relu(_shared_depthwise_conv(self.first, x, x.shape[1]), LIGHT_NEGATIVE_SLOPE)
        return self.shortcut(x, nnf.pixel_shuffle(_shared_depthwise_conv(self.last, y, x.shape[1]), 2))


def _shared_depthwise_conv(convolution: nn.Conv2d, x: Tensor, channels: int) -> Tensor:
    """The same convolution on each channel's maps: ``[B, C·in, H, W]`` → ``[B, C·out, H, W]``; faster than C pictures of their own."""
    return nnf.conv2d(x, convolution.weight.repeat(channels, 1, 1, 1), padding=1, groups=channels)
