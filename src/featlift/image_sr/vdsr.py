"""VDSR (Kim et al., "Accurate image super-resolution using very deep convolutional networks", CVPR 2016)."""

from itertools import pairwise

from torch import Tensor, nn

from featlift.checkpoints.init_args import store_init_args
from featlift.image_sr.bicubic import apply_to_luma, upsample_bicubic


@store_init_args()
class VDSR(nn.Module):
    """Twenty 3x3 convolutions that predict a residual to the luma of the bicubically upsampled image (665,921 parameters).

    A network can be used at several scales: set ``scale`` before a call. ``bias=False`` matches the public PyTorch port (664,704).
    """

    def __init__(self, scale: int = 4, depth: int = 20, width: int = 64, bias: bool = True) -> None:
        super().__init__()
        self.scale = scale
        channels = [1, *[width] * (depth - 1), 1]
        convolutions = [nn.Conv2d(a, b, 3, padding=1, bias=bias) for a, b in pairwise(channels)]
        layers = [layer for conv in convolutions for layer in (conv, nn.ReLU())]
        self.features = nn.Sequential(*layers[:-1])
        for conv in convolutions:
            nn.init.kaiming_normal_(conv.weight)

    def forward(self, low: Tensor) -> Tensor:
        """``[B, 3, H, W]`` in 0…1 → ``[B, 3, scale·H, scale·W]``, not clamped."""
        return apply_to_luma(lambda y: y + self.features(y), upsample_bicubic(low, self.scale))
