"""Parameter-free upsampling by 2: nearest, bilinear and bicubic interpolation."""

import torch.nn.functional as nnf
from torch import Tensor, nn

from featlift.checkpoints.init_args import store_init_args
from featlift.registry import check_choice

INTERPOLATION_MODES = ("nearest", "bilinear", "bicubic")


@store_init_args()
class FixedInterpolator(nn.Module):
    """Fixed interpolation by a factor of 2 with half-pixel centers (``align_corners=False``).

    Args:
        channels: Number of channels C; only for the common interpolator signature.
        mode: "nearest", "bilinear" or "bicubic".

    Raises:
        ValueError: If ``mode`` is unknown.
    """

    def __init__(self, channels: int, mode: str = "nearest"):
        super().__init__()
        check_choice(mode, INTERPOLATION_MODES, "interpolation")
        self.channels = channels
        self.mode = mode

    def forward(self, x: Tensor, guide: Tensor | None = None) -> Tensor:
        """``[B, C, H, W]`` → ``[B, C, 2H, 2W]``; ``guide`` is ignored."""
        corners = None if self.mode == "nearest" else False
        return nnf.interpolate(x, scale_factor=2.0, mode=self.mode, align_corners=corners)

    def extra_repr(self) -> str:
        """Return the mode for ``repr``."""
        return self.mode


@store_init_args()
class NearestInterpolator(FixedInterpolator):
    """Nearest-neighbor interpolation: each cell becomes 2x2 equal cells, as in the original FPN, PAFPN and BiFPN."""

    def __init__(self, channels: int):
        super().__init__(channels, "nearest")


@store_init_args()
class BilinearInterpolator(FixedInterpolator):
    """Bilinear interpolation; the shortcut of SRF-GAN's and AFI-GAN's generators."""

    def __init__(self, channels: int):
        super().__init__(channels, "bilinear")


@store_init_args()
class BicubicInterpolator(FixedInterpolator):
    """Bicubic interpolation (a = -0.75, as in PyTorch)."""

    def __init__(self, channels: int):
        super().__init__(channels, "bicubic")
