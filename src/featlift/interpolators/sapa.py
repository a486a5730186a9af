"""SAPA (Lu et al., NeurIPS 2022; Liu et al., 2023): upsampling by the similarity of the fine map's cells to the coarse map's.

Each cell of the guide is compared with points of the coarse map; the softmax of the similarities weighs these points. The points are the
neighborhood of the cell (:class:`SAPA`, "SAPA-B") or predicted ones (:class:`DynamicSAPA`, "SAPA-D" of the extension).
"""

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn
from torchvision.models.convnext import LayerNorm2d

from featlift.checkpoints.init_args import store_init_args
from featlift.interpolators.guide import fit_guide
from featlift.interpolators.reassembly import reassemble, similarities
from featlift.interpolators.sampling import at_least_float32, input_cell_centers, sample_grid, sampling_grid


@store_init_args()
class SAPA(nn.Module):
    """SAPA-B: similarities with a neighborhood, low-rank bilinear; 17,472 parameters at 256 channels.

    Differences between the two releases: the paper's normalizes each cell (as here), the extension's groups of channels of the whole map;
    both have the same number of parameters. The embedding has the extension's 32 channels, which its published counts require.

    Args:
        channels: Number of channels C.
        embedding_channels: Channels in which similarities are computed.
        kernel: Side of the neighborhood.
    """

    needs_guide = True

    def __init__(self, channels: int, embedding_channels: int = 32, kernel: int = 5):
        super().__init__()
        self.kernel = kernel
        self.norm, self.norm_guide = LayerNorm2d(channels), LayerNorm2d(channels)
        self.key = _projection(channels, embedding_channels)
        self.query = _projection(channels, embedding_channels)

    def forward(self, x: Tensor, guide: Tensor | None = None) -> Tensor:
        """``[B, C, H, W]`` and a guide ``[B, C, 2H, 2W]`` → ``[B, C, 2H, 2W]``.

        Raises:
            ValueError: If there is no guide, or its size does not fit.
        """
        queries = self.query(self.norm_guide(fit_guide(guide, x, "SAPA")))
        return reassemble(x, similarities(self.key(self.norm(x)), queries, self.kernel).softmax(dim=1))


@store_init_args()
class DynamicSAPA(nn.Module):
    """SAPA-D: similarities with predicted points of the coarse map; 139,808 parameters at 256 channels.

    Offsets are predicted from ``x`` alone, in cells of ``x``, and are not bounded; all points start close to the center of the cell.

    Args:
        channels: Number of channels C, a multiple of ``groups``.
        embedding_channels: Channels of each group in which similarities are computed.
        points: Number of points per group.
        groups: Number of channel groups with their own points and similarities.

    Raises:
        ValueError: If ``groups`` does not divide ``channels``.
    """

    needs_guide = True

    def __init__(self, channels: int, embedding_channels: int = 32, points: int = 9, groups: int = 4):
        super().__init__()
        if channels % groups:
            raise ValueError(
                f"{channels} channels cannot be split into {groups} groups; set groups to a divisor of {channels}."
            )
        self.points, self.groups = points, groups
        self.key = _projection(channels, groups * embedding_channels)
        self.query = _projection(channels, groups * embedding_channels)
        self.offset = _projection(channels, groups * points * 2 * 4)

    def forward(self, x: Tensor, guide: Tensor | None = None) -> Tensor:
        """``[B, C, H, W]`` and a guide ``[B, C, 2H, 2W]`` → ``[B, C, 2H, 2W]``.

        Raises:
            ValueError: If there is no guide, or its size does not fit.
        """
        queries = self.query(fit_guide(guide, x, "SAPA-D")).unflatten(1, (self.groups, -1))
        keys, grids = self.key(x), self._sampling_grids(x)
        logits = torch.stack([(queries * self._sample(keys, grid)).sum(2) for grid in grids], dim=2)
        weights = logits.softmax(dim=2)[:, :, :, None].unbind(2)
        y = torch.zeros_like(weights[0])
        for grid, weight in zip(grids, weights, strict=True):
            y = y + self._sample(x, grid) * weight
        return y.flatten(1, 2)

    def _sampling_grids(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return the :func:`sampling_grid` of each point: ``[B, groups, 2H, 2W, 2]``, at least float32."""
        height, width = x.shape[-2:]
        offsets = at_least_float32(nnf.pixel_shuffle(self.offset(x), 2)).unflatten(1, (self.groups, self.points, 2))
        points = offsets + input_cell_centers(height, width, offsets)[:, 0]
        return (
            sampling_grid(points.movedim(3, 1).flatten(2, 3), height, width).unflatten(1, (self.groups, -1)).unbind(2)
        )

    def _sample(self, x: Tensor, grid: Tensor) -> Tensor:
        """Sample ``x [B, C', H, W]`` at one point of each group: ``[B, groups, C'/groups, 2H, 2W]``."""
        return sample_grid(x, grid, padding="zeros").unflatten(1, (self.groups, -1))


def _projection(channels: int, out_channels: int) -> nn.Conv2d:
    convolution = nn.Conv2d(channels, out_channels, 1)
    nn.init.normal_(convolution.weight, std=0.02)
    nn.init.zeros_(convolution.bias)  # type: ignore[arg-type]
    return convolution
