"""Random patches of large maps for an unbiased estimate of the discriminator loss.

The discriminator takes nine tenths of a step of AFI-GAN's stage 1, and the two finest levels are 94 % of its cells. A few patches of them
estimate Eq. (1) without bias: all cells are drawn with equal probability, together with the receptive field of the discriminator.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil

import torch
from torch import Tensor

from featlift.features import Features, tile_spans
from featlift.training.learner import not_compiled

PATCH_SIZE = 32
"""Side of a patch without its margin, in cells."""
PATCH_MARGIN = 4
"""Margin in cells: receptive radius of the patch discriminator (four 3x3 convolutions)."""


@dataclass(frozen=True)
class PatchSample:
    """Patches to evaluate; levels without patches are evaluated as a whole.

    Attributes:
        patches: Level → (top, left, bottom, right) of each patch, in cells; the patches of a level have equal size.
        cell_weights: Level → weights ``[N, 1, h, w]`` of the cells of its N patches. The expectation of Σ weight · value is the mean of the
            map. Cells of the margin, whose receptive field exceeds the patch, have weight 0.
    """

    patches: Mapping[str, Sequence[tuple[int, int, int, int]]] = field(default_factory=dict)
    cell_weights: Mapping[str, Tensor] = field(default_factory=dict)

    @not_compiled
    def crop(self, features: Features) -> Features:
        """Crop level → ``[B, C, H, W]`` to level → ``[N·B, C, h, w]``, patch by patch; levels without patches do not change."""
        return {
            level: _crop_patches(x, self.patches[level]) if level in self.patches else x
            for level, x in features.items()
        }


@not_compiled
def sample_patches(features: Features, num_patches: int) -> PatchSample:
    """Draw ``num_patches`` patches of each map ``[B, C, H, W]``; maps not much larger than the patches are evaluated as a whole.

    A map is divided into tiles of :data:`PATCH_SIZE` cells per side, of which ``num_patches`` are drawn, the same for all images. 0 draws
    none: all maps are evaluated as a whole.
    """
    patches: dict[str, Sequence[tuple[int, int, int, int]]] = {}
    weights: dict[str, Tensor] = {}
    for level, x in features.items():
        height, width = x.shape[-2:]
        tiles = ceil(height / PATCH_SIZE) * ceil(width / PATCH_SIZE)
        if 0 < num_patches < tiles and num_patches * (PATCH_SIZE + 2 * PATCH_MARGIN) ** 2 < height * width:
            drawn = torch.randperm(tiles)[:num_patches].tolist()
            patches[level], weights[level] = patches_around((height, width), drawn)
            weights[level] = weights[level].to(x.device)
    return PatchSample(patches, weights)


def patches_around(size: tuple[int, int], tiles: Sequence[int]) -> tuple[list[tuple[int, int, int, int]], Tensor]:
    """Return the patches around ``tiles`` (row-major indices) of a map of ``size``, and their cell weights ``[N, 1, h, w]``."""
    rows, columns = (tile_spans(length, PATCH_SIZE, PATCH_MARGIN) for length in size)
    cell_weight = len(rows) * len(columns) / (len(tiles) * size[0] * size[1])
    spans = [(rows[tile // len(columns)], columns[tile % len(columns)]) for tile in tiles]
    patches = [(y.window.start, x.window.start, y.window.stop, x.window.stop) for y, x in spans]
    top, left, bottom, right = patches[0]
    weights = torch.zeros(len(tiles), 1, bottom - top, right - left)
    for patch_weights, (y, x) in zip(weights, spans, strict=True):
        patch_weights[:, y.tile_in_window(), x.tile_in_window()] = cell_weight
    return patches, weights


def _crop_patches(x: Tensor, patches: Sequence[tuple[int, int, int, int]]) -> Tensor:
    return torch.cat([x[..., top:bottom, left:right] for top, left, bottom, right in patches])
