"""DySample (Liu et al., ICCV 2023): upsampling by point sampling, with sampling offsets predicted by a linear layer."""

import torch
from torch import Tensor, nn

from featlift.checkpoints.init_args import store_init_args
from featlift.interpolators.sampling import at_least_float32, offset_points, sample_points


@store_init_args()
class DySample(nn.Module):
    """DySample in the "linear + pixel shuffle" style; initially equal to bilinear interpolation to within 0.1 %.

    Args:
        channels: Number of channels C, a multiple of ``groups``.
        groups: Number of channel groups with their own offsets; the paper uses 4.
        dyscope: Predict the range of the offsets ("DySample+" in the paper); otherwise it is a quarter of a cell.

    Raises:
        ValueError: If ``groups`` does not divide ``channels``.
    """

    phases: Tensor

    def __init__(self, channels: int, groups: int = 4, dyscope: bool = False):
        super().__init__()
        if channels % groups:
            raise ValueError(
                f"{channels} channels cannot be split into {groups} groups; set groups to a divisor of {channels}."
            )
        self.groups = groups
        self.offset = nn.Conv2d(channels, 2 * groups * 4, 1)
        self.scope = nn.Conv2d(channels, 2 * groups * 4, 1, bias=False) if dyscope else None
        nn.init.normal_(self.offset.weight, std=0.001)
        nn.init.zeros_(self.offset.bias)  # type: ignore[arg-type]
        if self.scope is not None:
            nn.init.zeros_(self.scope.weight)
        quarter = torch.tensor([-0.25, 0.25])
        y, x = torch.meshgrid(quarter, quarter, indexing="ij")
        self.register_buffer("phases", torch.stack([x, y]).view(1, 2, 1, 4, 1, 1), persistent=False)

    def forward(self, x: Tensor, guide: Tensor | None = None) -> Tensor:
        """``[B, C, H, W]`` → ``[B, C, 2H, 2W]``; ``guide`` is ignored."""
        scope = 0.25 if self.scope is None else 0.5 * self.scope(x).sigmoid()
        offsets = (self.offset(x) * scope).unflatten(1, (2, self.groups, 4))
        return sample_points(x, offset_points(at_least_float32(offsets) + self.phases))
