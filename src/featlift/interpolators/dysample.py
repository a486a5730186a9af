"""DySample (Liu et al., ICCV 2023): up-sampling as point sampling; a linear layer says where each output cell looks in the input."""

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

from featlift.checkpoints.init_args import store_init_args


@store_init_args()
class DySample(nn.Module):
    """The "linear + pixel shuffle" form; starts as bilinear interpolation to within 0.1 %.

    Args:
        channels: C; a multiple of ``groups``.
        groups: groups of channels that share their offsets (paper: 4).
        dyscope: predict also how far offsets may reach (the paper's "DySample+"); otherwise a quarter of a cell.

    Raises:
        ValueError: if ``groups`` does not divide ``channels``.
    """

    phases: Tensor

    def __init__(self, channels: int, groups: int = 4, dyscope: bool = False):
        super().__init__()
        if channels % groups:
            raise ValueError(f"{channels} channels cannot be split into {groups} groups; give a divisor as groups=…")
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
        across = (points[:, 0] + _cell_centers(width, points)) / width
        down = (points[:, 1] + _cell_centers(height, points)[:, None]) / height
        grid = torch.stack([across, down], dim=-1).flatten(0, 1) * 2 - 1
        grouped = x.reshape(batch * self.groups, channels // self.groups, height, width).to(grid.dtype)
        sampled = nnf.grid_sample(grouped, grid, padding_mode="border", align_corners=False)
        return sampled.view(batch, channels, 2 * height, 2 * width).to(x.dtype)

    def _sampling_points(self, x: Tensor) -> Tensor:
        """Where each output cell looks, in cells from the center of its input cell: ``[B, 2 (x, y), groups, 4 (phases), H, W]``.

        In float32 or finer: half precision cannot tell the columns of a wide map apart.
        """
        reach = 0.25 if self.scope is None else 0.5 * self.scope(x).sigmoid()
        offsets = (self.offset(x) * reach).view(x.shape[0], 2, self.groups, 4, *x.shape[-2:])
        return offsets.to(torch.promote_types(x.dtype, torch.float32)) + self.phases


def _cell_centers(cells: int, like: Tensor) -> Tensor:
    """Center of the input cell under each output cell along one side, in cells: ``[2 cells]``."""
    return torch.arange(cells, device=like.device, dtype=like.dtype).repeat_interleave(2) + 0.5
