"""Learned baselines of AFI-GAN, Table 6 (interpolation with five convolutions, deconvolution), and pixel shuffle.

None of them has a shortcut. The paper's parameter counts require one instance per step of the pyramid instead of a shared one.
"""

import torch.nn.functional as nnf
from torch import Tensor, nn

from featlift.checkpoints.init_args import store_init_args
from featlift.interpolators.fixed import FixedInterpolator
from featlift.interpolators.initialization import init_weights


@store_init_args()
class ResizeConv(nn.Module):
    """Resize-convolution: fixed interpolation, then five 3x3 convolutions; batch norm and LeakyReLU after the first four.

    2,952,448 parameters at 256 channels. The paper does not state the activation; slope 0.2 is that of its generator.

    Args:
        channels: Number of channels C.
        mode: Fixed interpolation: "nearest", "bilinear" or "bicubic".
        init: Initialization: "mild", "official" or "zero" (see :func:`featlift.interpolators.initialization.init_weights`).
    """

    def __init__(self, channels: int, mode: str = "nearest", init: str = "mild"):
        super().__init__()
        self.interpolate = FixedInterpolator(channels, mode)
        self.convolutions = nn.Sequential(*[layer for _ in range(4) for layer in _conv_bn_leaky_relu(channels)])
        self.last = nn.Conv2d(channels, channels, 3, padding=1)
        init_weights(self, init, self.last)

    def forward(self, x: Tensor, guide: Tensor | None = None) -> Tensor:
        """``[B, C, H, W]`` → ``[B, C, 2H, 2W]``; ``guide`` is ignored."""
        return self.last(self.convolutions(self.interpolate(x)))


def _conv_bn_leaky_relu(channels: int) -> tuple[nn.Module, ...]:
    return nn.Conv2d(channels, channels, 3, padding=1), nn.BatchNorm2d(channels), nn.LeakyReLU(0.2, inplace=True)


@store_init_args()
class Nearest5Conv(ResizeConv):
    """AFI-GAN's "NN-5conv"."""

    def __init__(self, channels: int, init: str = "mild"):
        super().__init__(channels, "nearest", init)


@store_init_args()
class Bilinear5Conv(ResizeConv):
    """AFI-GAN's "BL-5conv"."""

    def __init__(self, channels: int, init: str = "mild"):
        super().__init__(channels, "bilinear", init)


@store_init_args()
class Bicubic5Conv(ResizeConv):
    """AFI-GAN's "BC-5conv"."""

    def __init__(self, channels: int, init: str = "mild"):
        super().__init__(channels, "bicubic", init)


@store_init_args()
class Deconvolution(nn.Module):
    """A 6x6 transposed convolution of stride 2 and a 3x3 convolution (AFI-GAN, Table 6); 2,949,632 parameters at 256 channels.

    With kernel size 6 all four output phases receive 3x3 weights. The paper does not state the activation; LeakyReLU 0.2 is used.

    Args:
        channels: Number of channels C.
        init: Initialization: "mild", "official" or "zero".
    """

    def __init__(self, channels: int, init: str = "mild"):
        super().__init__()
        self.deconvolution = nn.ConvTranspose2d(channels, channels, 6, stride=2, padding=2)
        self.last = nn.Conv2d(channels, channels, 3, padding=1)
        init_weights(self, init, self.last)

    def forward(self, x: Tensor, guide: Tensor | None = None) -> Tensor:
        """``[B, C, H, W]`` → ``[B, C, 2H, 2W]``; ``guide`` is ignored."""
        return self.last(nnf.leaky_relu(self.deconvolution(x), 0.2))


@store_init_args()
class PixelShuffleConv(nn.Module):
    """A convolution to 4C channels and a pixel shuffle (ESPCN's sub-pixel convolution).

    Args:
        channels: Number of channels C.
        kernel: Kernel size of the convolution, odd.
        init: Initialization: "mild", "official" or "zero".
    """

    def __init__(self, channels: int, kernel: int = 3, init: str = "mild"):
        super().__init__()
        self.last = nn.Conv2d(channels, 4 * channels, kernel, padding=kernel // 2)
        init_weights(self, init, self.last)

    def forward(self, x: Tensor, guide: Tensor | None = None) -> Tensor:
        """``[B, C, H, W]`` → ``[B, C, 2H, 2W]``; ``guide`` is ignored."""
        return nnf.pixel_shuffle(self.last(x), 2)
