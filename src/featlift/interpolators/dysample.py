"""DySample (Liu et al., ICCV 2023): upsampling by point sampling, with sampling offsets predicted by a linear layer."""

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

from featlift.checkpoints.init_args import store_init_args


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

    def forward(self, x: Tensor) -> Tensor:
        """``[B, C, H, W]`` → ``[B, C, 2H, 2W]``."""
        batch, channels, height, width = x.shape
        points = nnf.pixel_shuffle(self._sampling_points(x).flatten(1, 3), 2).view(
            batch, 2, self.groups, 2 * height, 2 * width
        )
        grid_x = (points[:, 0] + _cell_centers(width, points)) / width
        grid_y = (points[:, 1] + _cell_centers(height, points)[:, None]) / height
        grid = torch.stack([grid_x, grid_y], dim=-1).flatten(0, 1) * 2 - 1
        grouped = x.reshape(batch * self.groups, channels // self.groups, height, width).to(grid.dtype)
        sampled = nnf.grid_sample(grouped, grid, padding_mode="border", align_corners=False)
        return sampled.view(batch, channels, 2 * height, 2 * width).to(x.dtype)

    def _sampling_points(self, x: Tensor) -> Tensor:
        """Return the offset from the center of the input cell, in cells: ``[B, 2 (x, y), groups, 4 (phases), H, W]``.

        At least float32: half precision cannot resolve the columns of a wide map.
        """
        scope = 0.25 if self.scope is None else 0.5 * self.scope(x).sigmoid()
        offsets = (self.offset(x) * scope).view(x.shape[0], 2, self.groups, 4, *x.shape[-2:])
        return offsets.to(torch.promote_types(x.dtype, torch.float32)) + self.phases


def _cell_centers(cells: int, like: Tensor) -> Tensor:
    """Return the center of the input cell of each output cell along one axis, in cells: ``[2 · cells]``."""
    return torch.arange(cells, device=like.device, dtype=like.dtype).repeat_interleave(2) + 0.5
