"""GIST, a descriptor without weights: energies of oriented filters at several scales on a 4 × 4 grid, and colors.

Oliva and Torralba, "Modeling the shape of the scene", IJCV 2001, with color added. FSR-GAN's Sec. 3.1 allows "a
traditional feature extraction model"; GIST makes image search available without pretrained weights, and it is sensitive to
the loss of fine edges in low-resolution images.
"""

import math

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn


class Gist(nn.Module):
    """GIST encoder: 4 scales × 8 orientations × 16 cells, and 4 colors × 16 cells: 576 values (24²), all ≥ 0.

    Args:
        grid: Number of cells per side.
        orientations: Number of orientations in 180°.
        scales: Number of scales; the image is downsampled by 2 from scale to scale.
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
        """``[B, 3, S, S]`` in 0…1, S at least ``8·2^(scales-1)`` → ``[B, D]``, square roots of the energies (as in the
        Hellinger distance).
        """
        features = [self._pool(_opponent_colors(image)).sqrt()]
        gray = image.mean(dim=1, keepdim=True)
        for _ in range(self.scales):
            features.append(self._pool(self._filter_energy(gray)).sqrt())
            gray = nnf.avg_pool2d(gray, 2)
        return torch.cat(features, dim=1)

    def _filter_energy(self, gray: Tensor) -> Tensor:
        response = nnf.conv2d(nnf.pad(gray, (4, 4, 4, 4), mode="replicate"), self.filters)
        even, odd = response.chunk(2, dim=1)
        return (even.square() + odd.square()).sqrt()

    def _pool(self, maps: Tensor) -> Tensor:
        return nnf.adaptive_avg_pool2d(maps, self.grid).flatten(1)


def _gabor_filters(orientations: int) -> Tensor:
    """Build Gabor filters ``[2·orientations, 1, 9, 9]``, even then odd: wavelength 4 px, Gaussian σ 2 px, zero mean."""
    y, x = torch.meshgrid(torch.arange(-4.0, 5), torch.arange(-4.0, 5), indexing="ij")
    angles = [math.pi * k / orientations for k in range(orientations)]
    distance = torch.stack([x * math.cos(a) + y * math.sin(a) for a in angles])
    window = torch.exp(-(x**2 + y**2) / 8)
    waves = torch.cat([torch.cos(distance * math.pi / 2) * window, torch.sin(distance * math.pi / 2) * window])
    waves = waves - window * (waves.sum((1, 2), keepdim=True) / window.sum())
    return (waves / waves.abs().sum((1, 2), keepdim=True))[:, None]


def _opponent_colors(image: Tensor) -> Tensor:
    """Compute rectified red, green, blue and yellow opponent colors ``[B, 4, H, W]``, scaled by 0.1 to limit their influence."""
    red, green, blue = image.unbind(dim=1)
    red_green, blue_yellow = red - green, blue - (red + green) / 2
    return 0.1 * torch.stack([red_green, -red_green, blue_yellow, -blue_yellow], dim=1).clamp(min=0)
