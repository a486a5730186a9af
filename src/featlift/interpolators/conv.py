"""The papers' learned baselines (AFI-GAN, Table 6): interpolation and five convolutions, deconvolution; and pixel shuffle.

None of them has a shortcut. The parameter counts of the paper fit only with one instance per step of the pyramid, not a shared one.
"""

import torch.nn.functional as nnf
from torch import Tensor, nn

from featlift.checkpoints.init_args import remember
from featlift.interpolators.fixed import Fixed
from featlift.interpolators.initialisation import initialise


@remember()
class Convolved(nn.Module):
    """A fixed interpolation and five 3x3 convolutions at the doubled size, batch norm and LeakyReLU after the first four.

    2,952,448 parameters at 256 channels. The activation is not stated in the paper; 0.2 is that of its generator.

    Args:
        channels: C.
        mode: the interpolation: "nearest", "bilinear" or "bicubic".
        init: "mild", "official" or "zero" (see :func:`featlift.interpolators.initialisation.initialise`).
    """

    def __init__(self, channels: int, mode: str = "nearest", init: str = "mild"):
        super().__init__()
        self.interpolate = Fixed(channels, mode)
        self.convolutions = nn.Sequential(*[layer for _ in range(4) for layer in _normalised(channels)])
        self.last = nn.Conv2d(channels, channels, 3, padding=1)
        initialise(self, init, self.last)

    def forward(self, x: Tensor) -> Tensor:
        """``[B, C, H, W]`` → ``[B, C, 2H, 2W]``."""
        return self.last(self.convolutions(self.interpolate(x)))


def _normalised(channels: int) -> tuple[nn.Module, ...]:
    return nn.Conv2d(channels, channels, 3, padding=1), nn.BatchNorm2d(channels), nn.LeakyReLU(0.2, inplace=True)


@remember()
class NearestConvolved(Convolved):
    """The paper's "NN-5conv"."""

    def __init__(self, channels: int, init: str = "mild"):
        super().__init__(channels, "nearest", init)


@remember()
class BilinearConvolved(Convolved):
    """The paper's "BL-5conv"."""

    def __init__(self, channels: int, init: str = "mild"):
        super().__init__(channels, "bilinear", init)


@remember()
class BicubicConvolved(Convolved):
    """The paper's "BC-5conv"."""

    def __init__(self, channels: int, init: str = "mild"):
        super().__init__(channels, "bicubic", init)


@remember()
class Deconvolution(nn.Module):
    """A 6x6 transposed convolution of stride 2 and a 3x3 convolution (AFI-GAN, Table 6); 2,949,632 parameters at 256 channels.

    With kernel 6 every output cell gets 3x3 taps, so none of the four phases is favoured. The activation is LeakyReLU 0.2 (not stated).

    Args:
        channels: C.
        init: "mild", "official" or "zero".
    """

    def __init__(self, channels: int, init: str = "mild"):
        super().__init__()
        self.deconvolution = nn.ConvTranspose2d(channels, channels, 6, stride=2, padding=2)
        self.last = nn.Conv2d(channels, channels, 3, padding=1)
        initialise(self, init, self.last)

    def forward(self, x: Tensor) -> Tensor:
        """``[B, C, H, W]`` → ``[B, C, 2H, 2W]``."""
        return self.last(nnf.leaky_relu(self.deconvolution(x), 0.2))


@remember()
class PixelShuffle(nn.Module):
    """A convolution to 4C channels whose groups of four become 2x2 cells (ESPCN's sub-pixel layer).

    Args:
        channels: C.
        kernel: side of the convolution, odd.
        init: "mild", "official" or "zero".
    """

    def __init__(self, channels: int, kernel: int = 3, init: str = "mild"):
        super().__init__()
        self.last = nn.Conv2d(channels, 4 * channels, kernel, padding=kernel // 2)
        initialise(self, init, self.last)

    def forward(self, x: Tensor) -> Tensor:
        """``[B, C, H, W]`` → ``[B, C, 2H, 2W]``."""
        return nnf.pixel_shuffle(self.last(x), 2)
