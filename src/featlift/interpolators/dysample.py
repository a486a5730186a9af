"""DySample (Liu et al., ICCV 2023): up-sampling as point sampling; a linear layer says where each output cell looks in the input."""

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn


class DySample(nn.Module):
    """The "linear + pixel shuffle" form; starts as bilinear interpolation to within 0.1 %.

    Args:
        channels: C; a multiple of ``groups``.
        groups: groups of channels that share their offsets (paper: 4).
        dynamic: predict also how far offsets may reach (the paper's "DySample+"); otherwise a quarter of a cell.

    Raises:
        ValueError: if ``groups`` does not divide ``channels``.
    """

    phases: Tensor

    def __init__(self, channels: int, groups: int = 4, dynamic: bool = False):
        super().__init__()
        if channels % groups:
            raise ValueError(f"{channels} channels cannot be split into {groups} groups; give a divisor as groups=…")
        self.groups = groups
        self.offset = nn.Conv2d(channels, 2 * groups * 4, 1)
        self.scope = nn.Conv2d(channels, 2 * groups * 4, 1, bias=False) if dynamic else None
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
        points = self._points(x) + self.phases.to(x.dtype)
        points = nnf.pixel_shuffle(points.reshape(batch, 2 * self.groups * 4, height, width), 2)
        points = points.view(batch, 2, self.groups, 2 * height, 2 * width).permute(0, 2, 3, 4, 1)
        grid = (points + _centres(x)) / x.new_tensor([width, height]) * 2 - 1
        grouped = x.reshape(batch * self.groups, channels // self.groups, height, width)
        sampled = nnf.grid_sample(grouped, grid.flatten(0, 1), padding_mode="border", align_corners=False)
        return sampled.view(batch, channels, 2 * height, 2 * width)

    def _points(self, x: Tensor) -> Tensor:
        """Offsets in cells of ``x``: ``[B, 2 (x, y), groups, 4 (phases), H, W]``."""
        reach = 0.25 if self.scope is None else 0.5 * self.scope(x).sigmoid()
        return (self.offset(x) * reach).view(x.shape[0], 2, self.groups, 4, *x.shape[-2:])


def _centres(x: Tensor) -> Tensor:
    """Centre of the input cell under each output cell, in cells: ``[2H, 2W, 2 (x, y)]``."""
    rows = torch.arange(x.shape[-2], device=x.device, dtype=x.dtype).repeat_interleave(2) + 0.5
    columns = torch.arange(x.shape[-1], device=x.device, dtype=x.dtype).repeat_interleave(2) + 0.5
    y, x_ = torch.meshgrid(rows, columns, indexing="ij")
    return torch.stack([x_, y], dim=-1)
