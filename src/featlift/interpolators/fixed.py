"""Doubling without parameters: nearest, bilinear and bicubic interpolation."""

import torch.nn.functional as nnf
from torch import Tensor, nn

from featlift.checkpoints.init_args import store_init_args

INTERPOLATION_MODES = ("nearest", "bilinear", "bicubic")


@store_init_args()
class FixedInterpolator(nn.Module):
    """A fixed interpolation to twice the size, with pixel centers aligned (``align_corners=False``).

    Args:
        channels: C; taken so that all interpolators are built alike, not needed.
        mode: "nearest", "bilinear" or "bicubic".

    Raises:
        ValueError: if ``mode`` is none of these.
    """

    def __init__(self, channels: int, mode: str = "nearest"):
        super().__init__()
        if mode not in INTERPOLATION_MODES:
            raise ValueError(f"Unknown interpolation '{mode}'; choose one of {', '.join(INTERPOLATION_MODES)}.")
        self.channels = channels
        self.mode = mode

    def forward(self, x: Tensor) -> Tensor:
        """``[B, C, H, W]`` → ``[B, C, 2H, 2W]``."""
        corners = None if self.mode == "nearest" else False
        return nnf.interpolate(x, scale_factor=2.0, mode=self.mode, align_corners=corners)

    def extra_repr(self) -> str:
        """The mode, for ``print``."""
        return self.mode


@store_init_args()
class NearestInterpolator(FixedInterpolator):
    """Each cell becomes 2x2 equal cells: what FPN, PAFPN and BiFPN do."""

    def __init__(self, channels: int):
        super().__init__(channels, "nearest")


@store_init_args()
class BilinearInterpolator(FixedInterpolator):
    """Linear interpolation along both sides; the shortcut inside SRF-GAN's and AFI-GAN's generators."""

    def __init__(self, channels: int):
        super().__init__(channels, "bilinear")


@store_init_args()
class BicubicInterpolator(FixedInterpolator):
    """Cubic interpolation (a = -0.75, PyTorch's)."""

    def __init__(self, channels: int):
        super().__init__(channels, "bicubic")
