"""The light interpolators: what AFI-GAN's and SRF-GAN's generators do, at the price of a memory copy.

Both papers close with "the speed can be improved by using a lighter interpolator". These two are made of convolutions, pixel shuffle,
addition and LeakyReLU only, so every runtime and exporter has them. They start as the interpolation that a detector already has, exactly;
`featlift.papers.light` teaches them what a heavy one knows.
"""

import torch.nn.functional as nnf
from torch import Tensor, nn

from featlift.checkpoints.init_args import remember
from featlift.interpolators.initialisation import Shortcut, initialise

SLOPE = 0.2


@remember()
class Light(nn.Module):
    """``nearest x2 (x) + expand(shuffle(grow(look(reduce(x)))))``: all thinking is done on ``width`` channels.

    62,912 parameters at 256 channels and 0.087 M multiply-adds per input cell, a hundredth of AFI's. The last convolution is a 1x1 at the
    doubled size, because widening *after* the shuffle writes each large map once.

    Args:
        channels: C.
        width: channels of the bottleneck.
        init: "zero" (default: exactly the shortcut), "mild" or "official" (see
            :func:`featlift.interpolators.initialisation.initialise`).
        shortcut: the fixed interpolation that is corrected: "nearest" (what detectors have), "bilinear", "bicubic" or "none".
    """

    def __init__(self, channels: int, width: int = 32, init: str = "zero", shortcut: str = "nearest"):
        super().__init__()
        self.reduce = nn.Conv2d(channels, width, 1)
        self.look = nn.Conv2d(width, width, 3, padding=1)
        self.grow = nn.Conv2d(width, 4 * width, 3, padding=1)
        self.last = nn.Conv2d(width, channels, 1)
        self.shortcut = Shortcut(channels, shortcut)
        initialise(self, init, self.last)

    def forward(self, x: Tensor) -> Tensor:
        """``[B, C, H, W]`` → ``[B, C, 2H, 2W]``."""
        y = nnf.leaky_relu(self.reduce(x), SLOPE)
        y = nnf.leaky_relu(self.look(y), SLOPE)
        y = nnf.leaky_relu(nnf.pixel_shuffle(self.grow(y), 2), SLOPE)
        return self.shortcut(x, self.last(y))


@remember()
class ChannelAgnostic(nn.Module):
    """The same small filters for every channel, so that one set of weights serves every pyramid, whatever its channels mean.

    Two 3x3 convolutions, 1 → ``width`` → 4 (the phases), without biases: doubling a map does to it the same at every scale
    (``f(a·x) = a·f(x)`` for a > 0) and in every order of the channels. 360 parameters, whatever the number of channels. Its price is
    bandwidth: it writes ``width`` maps for each one, many times what nearest interpolation takes on a CPU.

    Args:
        channels: C; taken so that all interpolators are built alike, not needed.
        width: filters.
        init: "zero" (default: exactly the shortcut), "mild" or "official".
        shortcut: "nearest", "bilinear", "bicubic" or "none".
    """

    def __init__(self, channels: int, width: int = 8, init: str = "zero", shortcut: str = "nearest"):
        super().__init__()
        self.first = nn.Conv2d(1, width, 3, padding=1, bias=False)
        self.last = nn.Conv2d(width, 4, 3, padding=1, bias=False)
        self.shortcut = Shortcut(channels, shortcut)
        initialise(self, init, self.last)

    def forward(self, x: Tensor) -> Tensor:
        """``[B, C, H, W]`` → ``[B, C, 2H, 2W]``."""
        y = nnf.leaky_relu(_on_each(self.first, x, x.shape[1]), SLOPE)
        return self.shortcut(x, nnf.pixel_shuffle(_on_each(self.last, y, x.shape[1]), 2))


def _on_each(convolution: nn.Conv2d, x: Tensor, channels: int) -> Tensor:
    """The same convolution on each channel's maps: ``[B, C·in, H, W]`` → ``[B, C·out, H, W]``; faster than C pictures of their own."""
    return nnf.conv2d(x, convolution.weight.repeat(channels, 1, 1, 1), padding=1, groups=channels)
