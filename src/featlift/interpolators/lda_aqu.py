"""LDA-AQU (Du et al., ACM MM 2024): upsampling by local attention with deformed neighborhoods; needs no guide.

Each output cell has a query, the interpolated embedding of the coarse map, which predicts the positions of its neighbors and, by its
similarity to their keys, their weights.
"""

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn
from torchvision.models.convnext import LayerNorm2d

from featlift.checkpoints.init_args import store_init_args
from featlift.interpolators.sampling import at_least_float32, sample_grid, sampling_grid


@store_init_args()
class LDAAQU(nn.Module):
    """LDA-AQU with the settings of the authors' detectors and one attention head; 39,410 parameters at 256 channels.

    Args:
        channels: Number of channels C, a multiple of ``reduction · groups``.
        reduction: Factor by which queries and keys have fewer channels.
        kernel: Side of the neighborhood, in output cells.
        groups: Number of channel groups with their own positions.
        max_offset: Largest offset of a neighbor, in output cells.
        align_corners: Map the centers of the corner cells onto each other, as the published code does; the default is half-pixel centers,
            as in the other interpolators, with which a cell keeps its position in the image whatever the size of the map.

    Raises:
        ValueError: If ``channels`` is no multiple of ``reduction · groups``.
    """

    neighbors: Tensor

    def __init__(
        self,
        channels: int,
        reduction: int = 4,
        kernel: int = 3,
        groups: int = 2,
        max_offset: float = 11.0,
        align_corners: bool = False,
    ):
        super().__init__()
        if channels % (reduction * groups):
            raise ValueError(
                f"{channels} channels cannot be reduced by {reduction} and split into {groups} groups; "
                f"set reduction and groups so that their product divides {channels}."
            )
        self.groups, self.max_offset, self.align_corners = groups, max_offset, align_corners
        width = channels // reduction
        self.norm = LayerNorm2d(channels)
        self.query, self.key = (nn.Conv2d(channels, width, 1, bias=False) for _ in range(2))
        self.offset = nn.Sequential(
            nn.Conv2d(width // groups, width // groups, 3, padding=1, groups=width // groups, bias=False),
            LayerNorm2d(width // groups),
            nn.GELU(),
            nn.Conv2d(width // groups, 2 * kernel**2, 3, padding=1),
        )
        self.position_bias = nn.Parameter(torch.zeros(kernel**2, width))
        nn.init.trunc_normal_(self.position_bias, std=0.02)
        for convolution in (self.query, self.key, self.offset[0]):
            nn.init.xavier_uniform_(convolution.weight)  # type: ignore[arg-type]
        for parameter in self.offset[-1].parameters():
            nn.init.zeros_(parameter)
        steps = torch.arange(kernel) - (kernel - 1) / 2
        y, x = torch.meshgrid(steps, steps, indexing="ij")
        self.register_buffer("neighbors", torch.stack([y, x], dim=-1).view(1, 1, kernel**2, 2, 1, 1), persistent=False)

    def forward(self, x: Tensor, guide: Tensor | None = None) -> Tensor:
        """``[B, C, H, W]`` → ``[B, C, 2H, 2W]``; ``guide`` is ignored."""
        normalized = self.norm(x)
        queries = nnf.interpolate(
            self.query(normalized), scale_factor=2.0, mode="bilinear", align_corners=self.align_corners
        )
        keys, grids = self.key(normalized), self._sampling_grids(queries, x.shape[-2], x.shape[-1])
        scaled = queries * queries.shape[1] ** -0.5
        near_keys = (
            sample_grid(keys, grid, "zeros") + bias
            for grid, bias in zip(grids, self.position_bias[:, :, None, None], strict=True)
        )
        logits = torch.stack([(scaled * key).sum(1, keepdim=True) for key in near_keys])
        weights = logits.softmax(dim=0).unbind()
        y = torch.zeros_like(weights[0])
        for grid, weight in zip(grids, weights, strict=True):
            y = y + sample_grid(x, grid, "zeros") * weight
        return y

    def _sampling_grids(self, queries: Tensor, height: int, width: int) -> tuple[Tensor, ...]:
        """Return the :func:`sampling_grid` of each neighbor, for an input of ``height x width`` cells: ``[B, groups, 2H, 2W, 2]``."""
        offsets = self.offset(queries.reshape(-1, queries.shape[1] // self.groups, 2 * height, 2 * width))
        offsets = at_least_float32(offsets.tanh()) * self.max_offset
        offsets = offsets.view(queries.shape[0], self.groups, -1, 2, 2 * height, 2 * width) + self.neighbors
        y, x = (torch.arange(2 * cells, device=offsets.device, dtype=offsets.dtype) for cells in (height, width))
        rows = self._input_position(offsets[:, :, :, 0] + y[:, None], height)
        columns = self._input_position(offsets[:, :, :, 1] + x, width)
        points = torch.stack([columns, rows], dim=1).flatten(2, 3)
        return sampling_grid(points, height, width).unflatten(1, (self.groups, -1)).unbind(2)

    def _input_position(self, output_cell: Tensor, cells: int) -> Tensor:
        """Return the input position, in cells from the border, of the center of (fractional) output cells."""
        if self.align_corners:
            return output_cell * ((cells - 1) / (2 * cells - 1)) + 0.5
        return (output_cell + 0.5) / 2
