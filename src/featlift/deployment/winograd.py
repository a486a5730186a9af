"""3x3 convolutions with fewer multiplications (Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016).

Libraries for CPUs leave this form out; here it is a product of matrices for each place of a tile, which they are good at.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn


@dataclass(frozen=True)
class WinogradTransforms:
    """Of rows, and then of columns: ``output · ((filter · g) ∘ (input · x))`` are the cells of a tile along one side.

    Attributes:
        input: of the cells that a tile reads, two more than it writes.
        filter: of the three taps.
        output: back, to the cells that it writes.
    """

    input: tuple[tuple[float, ...], ...]
    filter: tuple[tuple[float, ...], ...]
    output: tuple[tuple[float, ...], ...]


WINOGRAD_F2 = WinogradTransforms(
    input=((1, 0, -1, 0), (0, 1, 1, 0), (0, -1, 1, 0), (0, 1, 0, -1)),
    filter=((1, 0, 0), (1 / 2, 1 / 2, 1 / 2), (1 / 2, -1 / 2, 1 / 2), (0, 0, 1)),
    output=((1, 1, 1, 0), (0, 1, -1, -1)),
)
"""Tiles of 2x2: 4 multiplications an output cell and pair of channels instead of 9, hardly more rounding."""
WINOGRAD_F4 = WinogradTransforms(
    input=(
        (4, 0, -5, 0, 1, 0),
        (0, -4, -4, 1, 1, 0),
        (0, 4, -4, -1, 1, 0),
        (0, -2, -1, 2, 1, 0),
        (0, 2, -1, -2, 1, 0),
        (0, 4, 0, -5, 0, 1),
    ),
    filter=(
        (1 / 4, 0, 0),
        (-1 / 6, -1 / 6, -1 / 6),
        (-1 / 6, 1 / 6, -1 / 6),
        (1 / 24, 1 / 12, 1 / 6),
        (1 / 24, -1 / 12, 1 / 6),
        (0, 0, 1),
    ),
    output=((1, 1, 1, 1, 1, 0), (0, 1, -1, 2, -2, 0), (0, 1, 1, 4, 4, 0), (0, 1, -1, 8, -8, 1)),
)
"""Tiles of 4x4: 2.25 multiplications; rounding is about ten times that of the sum over taps."""


class WinogradConv2d(nn.Module):
    """Each tile is transformed, multiplied with the transformed filters place by place, and transformed back.

    The answer differs from the sum over taps by rounding: with :data:`WINOGRAD_F4` about 1e-6 relative in float32, but 5e-2 in bfloat16, with
    :data:`WINOGRAD_F2` 5e-3 there. Its scratch space is several times its map. Best with maps in channels-last memory.

    Args:
        convolution: whose weights are copied.
        transforms: :data:`WINOGRAD_F2` or :data:`WINOGRAD_F4`.

    Raises:
        ValueError: if the convolution is not 3x3 of stride 1 and padding 1 in one group.
    """

    transformed_weight: Tensor
    input_transform: Tensor
    output_transform: Tensor

    def __init__(self, convolution: nn.Conv2d, transforms: WinogradTransforms = WINOGRAD_F4):
        super().__init__()
        if not supports_winograd(convolution):
            raise ValueError(f"Only 3x3 convolutions of stride 1 and padding 1 have this form; this is {convolution}.")
        self.tile_size, self.input_tile_size = len(transforms.output), len(transforms.input)
        weight = convolution.weight.detach()
        rows = torch.tensor(transforms.filter, dtype=torch.float64)
        filters = torch.einsum("ia,ocab,jb->ijco", rows, weight.double().cpu(), rows).flatten(0, 1)
        self.register_buffer("filters", filters.to(weight).contiguous())  # [places, C, C']
        self.register_buffer("there", _transform_2d(transforms.input).to(weight))  # [places, places]
        self.register_buffer("back", _transform_2d(transforms.output).to(weight))  # [cells, places]
        self.bias = convolution.bias

    def forward(self, x: Tensor) -> Tensor:
        """``[B, C, H, W]`` → ``[B, C', H, W]``."""
        (batch, channels, height, width), tile, reads = x.shape, self.tile_size, self.input_tile_size
        down, across = -(-height // tile), -(-width // tile)
        margins = (0, 0, 1, tile * across + 1 - width, 1, tile * down + 1 - height)
        tiles = nnf.pad(x.permute(0, 2, 3, 1), margins).unfold(1, reads, tile).unfold(2, reads, tile)
        tiles = tiles.permute(4, 5, 0, 1, 2, 3).reshape(
            reads * reads, -1
        )  # a row: one place of all tiles, all channels
        places = torch.bmm((self.input_transform @ tiles).view(reads * reads, -1, channels), self.transformed_weight)
        cells = (self.output_transform @ places.view(reads * reads, -1)).view(tile, tile, batch, down, across, -1)
        y = cells.permute(2, 3, 0, 4, 1, 5).reshape(batch, tile * down, tile * across, -1)
        y = y[:, :height, :width].contiguous().permute(0, 3, 1, 2)
        return y if self.bias is None else y.add_(self.bias[:, None, None])


def supports_winograd(module: nn.Module) -> bool:
    """Whether ``module`` is a 3x3 convolution of stride 1 and zero padding 1 in one group."""
    shape = (3, 3), (1, 1), (1, 1), (1, 1), 1, "zeros"
    return isinstance(module, nn.Conv2d) and shape == (
        module.kernel_size,
        module.stride,
        module.padding,
        module.dilation,
        module.groups,
        module.padding_mode,
    )


def _transform_2d(rows: tuple[tuple[float, ...], ...]) -> Tensor:
    """The transform of rows and columns as one matrix on the places of a tile."""
    matrix = torch.tensor(rows, dtype=torch.float64)
    return torch.kron(matrix, matrix)
