"""AFI-GAN's feature interpolator: residual dense blocks and a bilinear shortcut (AFI-GAN, Sec. 3.2 and Fig. 3).

The published code also scales the residual around the three blocks by 0.2; the text scales only the residual of each block
(``outer_scale=1``). This module follows the code, because SRF-GAN's figure shows the same and the published weights need it.
"""

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

from featlift.checkpoints.init_args import store_init_args
from featlift.interpolators.initialization import Shortcut, init_weights

AFI_NEGATIVE_SLOPE = 0.2
AFI_RESIDUAL_SCALE = 0.2


class ResidualDenseBlock(nn.Module):
    """Residual dense block: four densely connected 3x3 convolutions and a fusing fifth; returns ``x + 0.2 · fifth``.

    No biases and no normalization. 1,234,944 parameters for 256 channels and growth rate 32.

    Args:
        channels: Number of channels C.
        growth_rate: Channels added by each of the four convolutions.
    """

    def __init__(self, channels: int, growth_rate: int = 32):
        super().__init__()
        self.grow = nn.ModuleList(
            nn.Conv2d(channels + i * growth_rate, growth_rate, 3, padding=1, bias=False) for i in range(4)
        )
        self.close = nn.Conv2d(channels + 4 * growth_rate, channels, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """``[B, C, H, W]`` → ``[B, C, H, W]``."""
        maps = [x]
        for convolution in self.grow:
            maps.append(nnf.leaky_relu(convolution(torch.cat(maps, dim=1)), AFI_NEGATIVE_SLOPE))
        return x + AFI_RESIDUAL_SCALE * self.close(torch.cat(maps, dim=1))


@store_init_args()
class AFI(nn.Module):
    """AFI-GAN's generator G; 7,834,624 parameters at 256 channels, 9.6 M multiply-adds per input cell.

    ``bilinear x2 (x) + conv(deconv6(conv(y + 0.2 · blocks(y))))`` with ``y = conv(x)``. All steps of a pyramid share one instance.

    Args:
        channels: Number of channels C.
        num_blocks: Number of residual dense blocks; the paper uses 3.
        growth_rate: Channels added by each convolution of a block.
        init: Initialization: "mild", "official" (all weights x 0.1, as published) or "zero" (the branch is exactly zero).
        shortcut: Fixed interpolation added to the branch: "bilinear" (the paper), "nearest", "bicubic" or "none".
        outer_scale: Factor on the output of the blocks: 0.2 in the published code and weights, 1 in the text.
    """

    def __init__(
        self,
        channels: int,
        num_blocks: int = 3,
        growth_rate: int = 32,
        init: str = "mild",
        shortcut: str = "bilinear",
        outer_scale: float = AFI_RESIDUAL_SCALE,
    ):
        super().__init__()
        self.outer_scale = outer_scale
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.blocks = nn.Sequential(*[ResidualDenseBlock(channels, growth_rate) for _ in range(num_blocks)])
        self.middle = nn.Conv2d(channels, channels, 3, padding=1)
        self.deconvolution = nn.ConvTranspose2d(channels, channels, 6, stride=2, padding=2)
        self.last = nn.Conv2d(channels, channels, 3, padding=1)
        self.shortcut = Shortcut(channels, shortcut)
        init_weights(self, init, self.last, scaled_parts=[self.blocks])

    def forward(self, x: Tensor, guide: Tensor | None = None) -> Tensor:
        """``[B, C, H, W]`` → ``[B, C, 2H, 2W]``; ``guide`` is ignored."""
        y = nnf.leaky_relu(self.first(x), AFI_NEGATIVE_SLOPE)
        y = y + self.outer_scale * self.blocks(y)
        y = nnf.leaky_relu(self.middle(y), AFI_NEGATIVE_SLOPE)
        y = nnf.leaky_relu(self.deconvolution(y), AFI_NEGATIVE_SLOPE)
        return self.shortcut(x, self.last(y))
