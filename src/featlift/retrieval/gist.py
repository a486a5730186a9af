"""A descriptor that needs no weights: what edges of which direction and size there are, in each of 4 × 4 places.

Oliva and Torralba, "Modeling the shape of the scene", IJCV 2001, with a little color. FSR-GAN's Sec. 3.1 allows "a
traditional feature extraction model"; this one makes image search run out of the box, and fine edges are the first
thing a small picture loses.
"""

import math

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn


class Gist(nn.Module):
    """Energies of oriented filters: 4 sizes × 8 directions × 16 places, and 4 colors × 16 places: 576 numbers, all ≥ 0
    (576 = 24²).

    Args:
        grid: places per side.
        orientations: of the edges, in half a turn.
        scales: octaves; each halves the picture once more.
    """

    filters: Tensor

    def __init__(self, grid: int = 4, orientations: int = 8, scales: int = 4):
        super().__init__()
        self.grid, self.orientations, self.scales = grid, orientations, scales
        self.register_buffer("filters", _gabor_filters(orientations))

    @property
    def dimension(self) -> int:
        """D, the length of the descriptor."""
        return self.grid**2 * (self.scales * self.orientations + 4)

    def forward(self, image: Tensor) -> Tensor:
        """``[B, 3, S, S]`` in 0…1, S at least ``8·2^(sizes-1)`` → ``[B, D]``; square roots of energies, as Hellinger's
        distance asks.
        """
        parts = [self._pool(_opponent_colors(image)).sqrt()]
        gray = image.mean(dim=1, keepdim=True)
        for _ in range(self.scales):
            parts.append(self._pool(self._filter_energy(gray)).sqrt())
            gray = nnf.avg_pool2d(gray, 2)
        return torch.cat(parts, dim=1)

    def _filter_energy(self, gray: Tensor) -> Tensor:
        answer = nnf.conv2d(nnf.pad(gray, (4, 4, 4, 4), mode="replicate"), self.filters)
        even, odd = answer.chunk(2, dim=1)
        return (even.square() + odd.square()).sqrt()

    def _pool(self, maps: Tensor) -> Tensor:
        return nnf.adaptive_avg_pool2d(maps, self.grid).flatten(1)


def _gabor_filters(orientations: int) -> Tensor:
    """``[2·directions, 1, 9, 9]``: even then odd waves of 4 px under a Gaussian of 2 px, each without a mean."""
    y, x = torch.meshgrid(torch.arange(-4.0, 5), torch.arange(-4.0, 5), indexing="ij")
    angles = [math.pi * k / orientations for k in range(orientations)]
    along = torch.stack([x * math.cos(a) + y * math.sin(a) for a in angles])
    window = torch.exp(-(x**2 + y**2) / 8)
    waves = torch.cat([torch.cos(along * math.pi / 2) * window, torch.sin(along * math.pi / 2) * window])
    waves = waves - window * (waves.sum((1, 2), keepdim=True) / window.sum())
    return (waves / waves.abs().sum((1, 2), keepdim=True))[:, None]


def _opponent_colors(image: Tensor) -> Tensor:
    """``[B, 4, H, W]``: how much redder, greener, bluer, yellower than gray, at a tenth of its strength (color must
    not decide).
    """
    red, green, blue = image.unbind(dim=1)
    across, warm = red - green, blue - (red + green) / 2
    return 0.1 * torch.stack([across, -across, warm, -warm], dim=1).clamp(min=0)
