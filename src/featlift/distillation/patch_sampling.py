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

PATCH_SIZE = 32
"""Cells per side of a window that count."""
PATCH_MARGIN = 4
"""Cells around each that the patch critic sees: four 3x3 convolutions."""


@dataclass(frozen=True)
class PatchSample:
    """Where to look; a level that is not named is looked at as a whole.

    Attributes:
        patches: level → (top, left, bottom, right) of each window, in cells; those of a level are equally large.
        cell_weights: level → ``[N, 1, h, w]``, what each cell of its N windows counts. On average over the draws, Σ weight · value is the mean
            of the values of the map. Cells at the rim of a window, which stand beside what cannot be seen, count 0.
    """

    patches: Mapping[str, Sequence[tuple[int, int, int, int]]] = field(default_factory=dict)
    cell_weights: Mapping[str, Tensor] = field(default_factory=dict)

    def crop(self, features: Features) -> Features:
        """Level → ``[B, C, H, W]`` → level → ``[N·B, C, h, w]``, window after window; as they are where there are no windows."""
        return {
            level: _crop_patches(x, self.patches[level]) if level in self.patches else x
            for level, x in features.items()
        }


def sample_patches(features: Features, num_patches: int) -> PatchSample:
    """``num_patches`` windows of each map ``[B, C, H, W]``, drawn anew at each call; maps that are hardly larger are looked at as a whole.

    A map is divided into tiles of :data:`PATCH_SIZE` cells, of which ``num_patches`` are drawn; the same ones for all pictures. 0 draws none: every
    map is looked at as a whole.
    """
    windows: dict[str, Sequence[tuple[int, int, int, int]]] = {}
    weights: dict[str, Tensor] = {}
    for level, x in features.items():
        height, width = x.shape[-2:]
        tiles = ceil(height / PATCH_SIZE) * ceil(width / PATCH_SIZE)
        if 0 < num_patches < tiles and num_patches * (PATCH_SIZE + 2 * PATCH_MARGIN) ** 2 < height * width:
            drawn = torch.randperm(tiles)[:num_patches].tolist()
            windows[level], weights[level] = patches_around((height, width), drawn)
            weights[level] = weights[level].to(x.device)
    return PatchSample(windows, weights)


def patches_around(size: tuple[int, int], tiles: Sequence[int]) -> tuple[list[tuple[int, int, int, int]], Tensor]:
    """Windows around the tiles numbered ``tiles`` (row by row) of a map of ``size``, and the weights of their cells ``[N, 1, h, w]``."""
    (height, width), across = size, ceil(size[1] / PATCH_SIZE)
    share = ceil(height / PATCH_SIZE) * across / (len(tiles) * height * width)
    windows, weights = [], []
    for tile in tiles:
        (top, bottom), rows = _patch_extent(tile // across, height)
        (left, right), columns = _patch_extent(tile % across, width)
        windows.append((top, left, bottom, right))
        weights.append(share * rows[:, None] * columns)
    return windows, torch.stack(weights)[:, None]


def _patch_extent(tile: int, cells: int) -> tuple[tuple[int, int], Tensor]:
    """Along one side: first and last of the cells that are seen, and which of them belong to the tile (1) or not (0)."""
    seen = min(cells, PATCH_SIZE + 2 * PATCH_MARGIN)
    start = min(max(tile * PATCH_SIZE - PATCH_MARGIN, 0), cells - seen)
    place = torch.arange(start, start + seen)
    return (start, start + seen), ((place >= tile * PATCH_SIZE) & (place < (tile + 1) * PATCH_SIZE)).float()


def _crop_patches(x: Tensor, windows: Sequence[tuple[int, int, int, int]]) -> Tensor:
    return torch.cat([x[..., top:bottom, left:right] for top, left, bottom, right in windows])
