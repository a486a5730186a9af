"""Joint bilateral upsampling (FeatUp: Fu et al., ICLR 2024): smooths within objects of the guide and not across their edges.

The guide may be any finer map of the same image, or the image itself, and the ratio 2, 4, 8 or 16: features of a vision transformer are
brought to a quarter of the image's resolution by ``interpolator("jbu", 384, ratio=4, guide_channels=3)``.
"""

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

from featlift.checkpoints.init_args import store_init_args
from featlift.interpolators.guide import fit_guide
from featlift.interpolators.reassembly import filter_cells, shifted_maps

FIXUP_SCALE = 0.1
RATIOS = (2, 4, 8, 16)


class JBUStep(nn.Module):
    """Upsampling by 2: bicubic interpolation, then a filter from the spatial distance and the similarity of the guide's cells.

    Args:
        guide_channels: Number of channels C' of the guide.
        key_channels: Channels in which the guide's cells are compared.
        radius: Radius of the filter in output cells.
    """

    def __init__(self, guide_channels: int, key_channels: int, radius: int):
        super().__init__()
        area = (2 * radius + 1) ** 2
        self.radius = radius
        self.project = nn.Sequential(
            nn.Conv2d(guide_channels, key_channels, 1), nn.GELU(), nn.Conv2d(key_channels, key_channels, 1)
        )
        self.correct = nn.Sequential(nn.Conv2d(guide_channels + area, area, 1), nn.GELU(), nn.Conv2d(area, area, 1))
        self.log_temperature = nn.Parameter(torch.tensor(0.0))
        self.sigma = nn.Parameter(torch.tensor(1.0))

    def forward(self, x: Tensor, guide: Tensor) -> Tensor:
        """``[B, C, H, W]`` and ``[B, C', 2H, 2W]`` → ``[B, C, 2H, 2W]``."""
        weights = self.range_weights(guide) * self.spatial_weights().view(1, -1, 1, 1)
        weights = weights / weights.sum(dim=1, keepdim=True).clamp(min=1e-7)
        weights = weights + FIXUP_SCALE * self.correct(torch.cat([weights, guide], dim=1))
        return filter_cells(nnf.interpolate(x, size=guide.shape[-2:], mode="bicubic"), weights, padding="border")

    def range_weights(self, guide: Tensor) -> Tensor:
        """Return the softmax of the similarities to the neighbors: ``[B, C', H, W]`` → ``[B, (2 · radius + 1)², H, W]``."""
        keys = self.project(guide)
        neighbors = shifted_maps(keys, 2 * self.radius + 1, padding="border")
        logits = torch.cat([(keys * y).sum(1, keepdim=True) for y in neighbors], dim=1)
        return (self.log_temperature.exp().clamp(1e-4, 1e4) * logits).softmax(dim=1)

    def spatial_weights(self) -> Tensor:
        """Return the Gaussian of the distance, in units of the radius: ``[(2 · radius + 1)²]``."""
        steps = torch.linspace(-1, 1, 2 * self.radius + 1, device=self.sigma.device, dtype=self.sigma.dtype)
        return torch.exp(-(steps[:, None] ** 2 + steps**2) / (2 * self.sigma**2)).flatten()


@store_init_args()
class JBU(nn.Module):
    """FeatUp's stack of joint bilateral upsamplers, one for each factor of 2; 92,518 parameters at 256 channels, a ratio of 2.

    Differences to the published code: no dropout, borders are repeated instead of reflected (so that maps may have fewer cells than the
    radius), and a guide whose size is no multiple of that of ``x`` is padded instead of resized.

    Args:
        channels: Number of channels C.
        guide_channels: Number of channels of the guide; 0 for C (in a pyramid, the lateral map has C).
        ratio: Upsampling factor: 2 (in a pyramid), 4, 8 or 16.
        key_channels: Channels in which the guide's cells are compared.
        radius: Radius of the filters in output cells.

    Raises:
        ValueError: If ``ratio`` is none of these.
    """

    needs_guide = True

    def __init__(self, channels: int, guide_channels: int = 0, ratio: int = 2, key_channels: int = 32, radius: int = 3):
        super().__init__()
        if ratio not in RATIOS:
            raise ValueError(f"ratio is {ratio}; choose one of {', '.join(map(str, RATIOS))}.")
        self.ratio = ratio
        self.steps = nn.ModuleList(
            JBUStep(guide_channels or channels, key_channels, radius) for _ in range(ratio.bit_length() - 1)
        )
        self.last = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor, guide: Tensor | None = None) -> Tensor:
        """``[B, C, H, W]`` and a guide ``[B, C', ratio · H, ratio · W]`` → ``[B, C, ratio · H, ratio · W]``.

        Raises:
            ValueError: If there is no guide, or its size does not fit.
        """
        guide, reduction = fit_guide(guide, x, "JBU", self.ratio), self.ratio
        for step in self.steps:
            reduction //= 2
            x = step(x, guide if reduction == 1 else nnf.avg_pool2d(guide, reduction))
        return x + FIXUP_SCALE * self.last(x)
