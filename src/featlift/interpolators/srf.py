"""SRF-GAN's feature interpolator: residual blocks with batch norm and a bilinear shortcut (SRF-GAN, Sec. 3.2).

No code was published. The text has a 1x1 last convolution, but the parameter columns of all tables fit only a 3x3 last convolution
and a 6x6 deconvolution, which are the default. AFI-GAN's "RB" variant is this network with the 3x3 last convolution.
"""

from collections.abc import Callable

import torch.nn.functional as nnf
from torch import Tensor, nn

from featlift.checkpoints.init_args import store_init_args
from featlift.interpolators.initialization import Shortcut, init_weights
from featlift.registry import check_choice

SRF_NEGATIVE_SLOPE = 0.2
SRF_NORMS: dict[str, Callable[[int], nn.Module]] = {
    "batch": nn.BatchNorm2d,
    "sync": nn.SyncBatchNorm,
    "none": lambda channels: nn.Identity(),
}


class SRFBlock(nn.Module):
    """Residual block ``x + norm(conv(lrelu(norm(conv(x)))))`` of 3x3 convolutions with biases.

    Args:
        channels: Number of channels C.
        norm: "batch", "sync" (over all processes) or "none". All levels share one interpolator, so its statistics mix levels.

    Raises:
        ValueError: If ``norm`` is unknown.
    """

    def __init__(self, channels: int, norm: str = "batch"):
        super().__init__()
        check_choice(norm, SRF_NORMS, "norm")
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm1 = SRF_NORMS[norm](channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm2 = SRF_NORMS[norm](channels)

    def forward(self, x: Tensor) -> Tensor:
        """``[B, C, H, W]`` → ``[B, C, H, W]``."""
        y = nnf.leaky_relu(self.norm1(self.conv1(x)), SRF_NEGATIVE_SLOPE)
        return x + self.norm2(self.conv2(y))


@store_init_args()
class SRF(nn.Module):
    """SRF-GAN's generator G; 10,035,712 parameters at 256 channels (9,511,424 with the 1x1 last convolution of the text).

    Args:
        channels: Number of channels C.
        num_blocks: Number of residual blocks; the paper uses 5.
        norm: Normalization: "batch", "sync" or "none".
        last_kernel: Kernel size of the last convolution: 3 (fits the tables) or 1 (the text).
        init: Initialization: "mild", "official" (all weights x 0.1) or "zero" (the branch is exactly zero).
        shortcut: Fixed interpolation added to the branch: "bilinear" (the paper), "nearest", "bicubic" or "none".
    """

    def __init__(
        self,
        channels: int,
        num_blocks: int = 5,
        norm: str = "batch",
        last_kernel: int = 3,
        init: str = "mild",
        shortcut: str = "bilinear",
    ):
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.blocks = nn.Sequential(*[SRFBlock(channels, norm) for _ in range(num_blocks)])
        self.middle = nn.Conv2d(channels, channels, 3, padding=1)
        self.deconvolution = nn.ConvTranspose2d(channels, channels, 6, stride=2, padding=2)
        self.last = nn.Conv2d(channels, channels, last_kernel, padding=last_kernel // 2)
        self.shortcut = Shortcut(channels, shortcut)
        init_weights(self, init, self.last)  # batch norm cancels any weight scaling inside the blocks

    def forward(self, x: Tensor, guide: Tensor | None = None) -> Tensor:
        """``[B, C, H, W]`` → ``[B, C, 2H, 2W]``; ``guide`` is ignored."""
        y = self.blocks(nnf.leaky_relu(self.first(x), SRF_NEGATIVE_SLOPE))
        y = nnf.leaky_relu(self.middle(y), SRF_NEGATIVE_SLOPE)
        y = nnf.leaky_relu(self.deconvolution(y), SRF_NEGATIVE_SLOPE)
        return self.shortcut(x, self.last(y))
