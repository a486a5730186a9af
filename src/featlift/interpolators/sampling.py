"""Sampling of maps at points between the cells."""

import torch
import torch.nn.functional as nnf
from torch import Tensor


def sample_points(x: Tensor, points: Tensor, padding: str = "border") -> Tensor:
    """Sample ``x [B, C, H, W]`` bilinearly at ``points [B, 2, groups, H', W']``; returns ``[B, C, H', W']``.

    Args:
        x: Map, whose channels are divided into ``groups`` with their own points.
        points: Coordinates (x, y) in cells; the center of the first cell is 0.5. At least float32: half precision cannot resolve the
            columns of a wide map.
        padding: Values beyond the border: "border" or "zeros".
    """
    return sample_grid(x, sampling_grid(points, x.shape[-2], x.shape[-1]), padding)


def sampling_grid(points: Tensor, height: int, width: int) -> Tensor:
    """Return the grid ``[B, groups, H', W', 2]`` of ``points [B, 2, groups, H', W']`` in a map of ``height x width`` cells."""
    return torch.stack([points[:, 0] / width, points[:, 1] / height], dim=-1) * 2 - 1


def sample_grid(x: Tensor, grid: Tensor, padding: str = "border") -> Tensor:
    """Sample ``x [B, C, H, W]`` bilinearly at the points of a :func:`sampling_grid`; returns ``[B, C, H', W']``."""
    batch, channels, height, width = x.shape
    grouped = x.reshape(batch * grid.shape[1], -1, height, width).to(grid.dtype)
    sampled = nnf.grid_sample(grouped, grid.flatten(0, 1), padding_mode=padding, align_corners=False)
    return sampled.view(batch, channels, *grid.shape[2:4]).to(x.dtype)


def offset_points(offsets: Tensor) -> Tensor:
    """Return the points of an upsampling by 2 from the offsets of its four phases, both in input cells.

    ``offsets [B, 2, groups, 4, H, W]`` (x, y; from the center of the input cell) → ``[B, 2, groups, 2H, 2W]``, at least float32.
    """
    height, width = offsets.shape[-2:]
    merged = nnf.pixel_shuffle(offsets.flatten(1, 3), 2).view(offsets.shape[0], 2, -1, 2 * height, 2 * width)
    return at_least_float32(merged) + input_cell_centers(height, width, at_least_float32(merged))


def input_cell_centers(height: int, width: int, like: Tensor) -> Tensor:
    """Return the center of the input cell of each output cell of an upsampling by 2, in input cells: ``[2, 1, 2H, 2W]`` (x, y)."""
    x, y = (
        torch.arange(cells, device=like.device, dtype=like.dtype).repeat_interleave(2) + 0.5
        for cells in (width, height)
    )
    return torch.stack([x.expand(2 * height, -1), y[:, None].expand(-1, 2 * width)])[:, None]


def at_least_float32(x: Tensor) -> Tensor:
    """Return ``x`` in float32, or unchanged if its precision is higher."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
