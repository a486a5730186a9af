"""Adaptive filtering: each output cell is a weighted sum of a neighborhood, with its own weights (CARAFE's reassembly).

The neighborhoods are added one after the other, so that no copy of ``kernel²`` maps is stored.
"""

import torch
import torch.nn.functional as nnf
from torch import Tensor

PADDING_MODES = {"zeros": "constant", "border": "replicate"}
"""Padding mode → mode of ``torch.nn.functional.pad``."""


def kernel_size(weights: Tensor) -> int:
    """Return the side of the neighborhoods of ``weights [B, kernel², …]``."""
    return round(weights.shape[1] ** 0.5)


def filter_cells(x: Tensor, weights: Tensor, padding: str = "zeros") -> Tensor:
    """Return the weighted sum of the neighborhood of each cell: ``[B, C, H, W]`` and ``[B, kernel², H, W]`` → ``[B, C, H, W]``.

    Args:
        x: Map.
        weights: Weights, row by row of the neighborhood.
        padding: Values beyond the border: "zeros", or "border" to repeat the last row and column.
    """
    return _weighted_sum(shifted_maps(x, kernel_size(weights), padding=padding), weights[:, :, None])


def reassemble(x: Tensor, weights: Tensor) -> Tensor:
    """Upsample by 2: each output cell is a weighted sum of the neighborhood of its input cell, with zeros beyond the border.

    ``x [B, C, H, W]`` and ``weights [B, kernel², 2H, 2W]`` → ``[B, C, 2H, 2W]``.
    """
    maps = shifted_maps(x, kernel_size(weights))
    return merge_phases(_weighted_sum([y[:, :, None] for y in maps], split_phases(weights)[:, :, None]))


def similarities(x: Tensor, queries: Tensor, kernel: int) -> Tensor:
    """Return the inner products of each query with the ``kernel²`` neighborhood of its input cell, zero beyond the border.

    ``x [B, C, H, W]`` and ``queries [B, C, 2H, 2W]`` → ``[B, kernel², 2H, 2W]``.
    """
    phases = split_phases(queries)
    return merge_phases(torch.stack([(y[:, :, None] * phases).sum(1) for y in shifted_maps(x, kernel)], dim=1))


def shifted_maps(x: Tensor, kernel: int, dilation: int = 1, padding: str = "zeros") -> list[Tensor]:
    """Return the ``kernel²`` maps ``[B, C, H, W]`` of the neighbors of each cell of ``x``, row by row; views of one padded map."""
    height, width = x.shape[-2:]
    padded = nnf.pad(x, (kernel // 2 * dilation,) * 4, mode=PADDING_MODES[padding])
    starts = [dilation * i for i in range(kernel)]
    rows = [padded.narrow(-2, i, height) for i in starts]
    return [row.narrow(-1, j, width) for row in rows for j in starts]


def split_phases(x: Tensor) -> Tensor:
    """``[B, C, 2H, 2W]`` → ``[B, C, 4, H, W]``: the four output cells of each input cell, row by row."""
    return nnf.pixel_unshuffle(x, 2).unflatten(1, (-1, 4))


def merge_phases(x: Tensor) -> Tensor:
    """``[B, C, 4, H, W]`` → ``[B, C, 2H, 2W]``, the inverse of :func:`split_phases`."""
    return nnf.pixel_shuffle(x.flatten(1, 2), 2)


def _weighted_sum(maps: list[Tensor], weights: Tensor) -> Tensor:
    """Sum of ``maps`` (each ``[B, C, …]``) with the channels of ``weights [B, len(maps), 1, …]`` as weights."""
    (first, *others), (first_weight, *other_weights) = maps, weights.unbind(1)
    total = first * first_weight
    for y, weight in zip(others, other_weights, strict=True):
        total = total.addcmul_(y, weight)
    return total
