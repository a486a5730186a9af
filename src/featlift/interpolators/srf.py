"""SRF-GAN's feature interpolator: residual blocks with batch norm beside a bilinear shortcut (SRF-GAN, Sec. 3.2).

No code was published. The text ends the network with a 1x1 convolution, but the parameter columns of all its tables fit only a 3x3 end
and a 6x6 deconvolution, so that is the default. AFI-GAN's "RB" variant is this network with the 3x3 end.
"""

from collections.abc import Callable

import torch.nn.functional as nnf
from torch import Tensor, nn

from featlift.checkpoints.init_args import remember
from featlift.interpolators.initialisation import Shortcut, initialise

SLOPE = 0.2
NORMS: dict[str, Callable[[int], nn.Module]] = {
    "batch": nn.BatchNorm2d,
    "sync": nn.SyncBatchNorm,
    "none": lambda channels: nn.Identity(),
}


class ResidualBlock(nn.Module):
    """``x + norm(conv(lrelu(norm(conv(x)))))``, 3x3 convolutions with biases.

    Args:
        channels: C.
        norm: "batch", "sync" (over all processes) or "none". One interpolator serves all levels, so its statistics mix levels.

    Raises:
        ValueError: if ``norm`` is none of these.
    """

    def __init__(self, channels: int, norm: str = "batch"):
        super().__init__()
        if norm not in NORMS:
            raise ValueError(f"Unknown norm '{norm}'; choose one of {', '.join(NORMS)}.")
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm1 = NORMS[norm](channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm2 = NORMS[norm](channels)

    def forward(self, x: Tensor) -> Tensor:
        """``[B, C, H, W]`` → ``[B, C, H, W]``."""
        y = nnf.leaky_relu(self.norm1(self.conv1(x)), SLOPE)
        return x + self.norm2(self.conv2(y))


@remember()
class SRF(nn.Module):
    """SRF-GAN's generator G; 10,035,712 parameters at 256 channels (9,511,424 with the 1x1 end of the text).

    Args:
        channels: C.
        blocks: residual blocks; the paper uses 5.
        norm: "batch", "sync" or "none".
        end: side of the last convolution, 3 (fits the tables) or 1 (the text).
        init: "mild" (default), "official" (x 0.1 everywhere) or "zero" (the branch adds exactly nothing).
        shortcut: the fixed interpolation around the branch: "bilinear" (the paper's), "nearest", "bicubic" or "none".
    """

    def __init__(
        self,
        channels: int,
        blocks: int = 5,
        norm: str = "batch",
        end: int = 3,
        init: str = "mild",
        shortcut: str = "bilinear",
    ):
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.blocks = nn.Sequential(*[ResidualBlock(channels, norm) for _ in range(blocks)])
        self.middle = nn.Conv2d(channels, channels, 3, padding=1)
        self.deconvolution = nn.ConvTranspose2d(channels, channels, 6, stride=2, padding=2)
        self.last = nn.Conv2d(channels, channels, end, padding=end // 2)
        self.shortcut = Shortcut(channels, shortcut)
        initialise(self, init, self.last)  # batch norm undoes any damping inside the blocks

    def forward(self, x: Tensor) -> Tensor:
        """``[B, C, H, W]`` → ``[B, C, 2H, 2W]``."""
        y = self.blocks(nnf.leaky_relu(self.first(x), SLOPE))
        y = nnf.leaky_relu(self.middle(y), SLOPE)
        y = nnf.leaky_relu(self.deconvolution(y), SLOPE)
        return self.shortcut(x, self.last(y))
