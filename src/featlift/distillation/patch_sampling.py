"""Windows of large maps, drawn so that a sum over them is on average the mean over the whole map.

The critic is nine tenths of a step of AFI-GAN's stage 1, and two finest levels are 94 % of its cells. Looking at a few windows of them
estimates Eq. (1) without bias: every cell is as likely to be looked at, with all that the critic sees around it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil

import torch
from torch import Tensor

from featlift.features import Features

SIDE = 32
"""Cells per side of a window that count."""
REACH = 4
"""Cells around each that the patch critic sees: four 3x3 convolutions."""


@dataclass(frozen=True)
class Glimpses:
    """Where to look; a level that is not named is looked at as a whole.

    Attributes:
        windows: level → (top, left, bottom, right) of each window, in cells; those of a level are equally large.
        weights: level → ``[N, 1, h, w]``, what each cell of its N windows counts. On average over the draws, Σ weight · value is the mean
            of the values of the map. Cells at the rim of a window, which stand beside what cannot be seen, count 0.
    """

    windows: Mapping[str, Sequence[tuple[int, int, int, int]]] = field(default_factory=dict)
    weights: Mapping[str, Tensor] = field(default_factory=dict)

    def of(self, features: Features) -> Features:
        """Level → ``[B, C, H, W]`` → level → ``[N·B, C, h, w]``, window after window; as they are where there are no windows."""
        return {level: _cut(x, self.windows[level]) if level in self.windows else x for level, x in features.items()}


def glimpses(features: Features, count: int) -> Glimpses:
    """``count`` windows of each map ``[B, C, H, W]``, drawn anew at each call; maps that are hardly larger are looked at as a whole.

    A map is divided into tiles of :data:`SIDE` cells, of which ``count`` are drawn; the same ones for all pictures. 0 draws none: every
    map is looked at as a whole.
    """
    windows: dict[str, Sequence[tuple[int, int, int, int]]] = {}
    weights: dict[str, Tensor] = {}
    for level, x in features.items():
        height, width = x.shape[-2:]
        tiles = ceil(height / SIDE) * ceil(width / SIDE)
        if 0 < count < tiles and count * (SIDE + 2 * REACH) ** 2 < height * width:
            drawn = torch.randperm(tiles)[:count].tolist()
            windows[level], weights[level] = windows_of((height, width), drawn)
            weights[level] = weights[level].to(x.device)
    return Glimpses(windows, weights)


def windows_of(size: tuple[int, int], drawn: Sequence[int]) -> tuple[list[tuple[int, int, int, int]], Tensor]:
    """Windows around the tiles numbered ``drawn`` (row by row) of a map of ``size``, and the weights of their cells ``[N, 1, h, w]``."""
    (height, width), across = size, ceil(size[1] / SIDE)
    share = ceil(height / SIDE) * across / (len(drawn) * height * width)
    windows, weights = [], []
    for tile in drawn:
        (top, bottom), rows = _along(tile // across, height)
        (left, right), columns = _along(tile % across, width)
        windows.append((top, left, bottom, right))
        weights.append(share * rows[:, None] * columns)
    return windows, torch.stack(weights)[:, None]


def _along(tile: int, cells: int) -> tuple[tuple[int, int], Tensor]:
    """Along one side: first and last of the cells that are seen, and which of them belong to the tile (1) or not (0)."""
    seen = min(cells, SIDE + 2 * REACH)
    start = min(max(tile * SIDE - REACH, 0), cells - seen)
    place = torch.arange(start, start + seen)
    return (start, start + seen), ((place >= tile * SIDE) & (place < (tile + 1) * SIDE)).float()


def _cut(x: Tensor, windows: Sequence[tuple[int, int, int, int]]) -> Tensor:
    return torch.cat([x[..., top:bottom, left:right] for top, left, bottom, right in windows])
