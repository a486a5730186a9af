"""Winograd 3x3 convolutions (Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016).

CPU libraries do not offer this algorithm for inference. Here it is a batch of matrix products, one per element of a transformed tile.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn


@dataclass(frozen=True)
class WinogradTransforms:
    """1D transforms, applied to rows and columns: ``output · ((filter · g) ∘ (input · x))`` are the output cells of a tile along one side.

    Attributes:
        input: Transform of the input cells of a tile, two more than its output cells.
        filter: Transform of the three filter weights.
        output: Transform back to the output cells.
    """

    input: tuple[tuple[float, ...], ...]
    filter: tuple[tuple[float, ...], ...]
    output: tuple[tuple[float, ...], ...]


WINOGRAD_F2 = WinogradTransforms(
    input=((1, 0, -1, 0), (0, 1, 1, 0), (0, -1, 1, 0), (0, 1, 0, -1)),
    filter=((1, 0, 0), (1 / 2, 1 / 2, 1 / 2), (1 / 2, -1 / 2, 1 / 2), (0, 0, 1)),
    output=((1, 1, 1, 0), (0, 1, -1, -1)),
)
"""F(2x2, 3x3): 4 multiplications per output cell and channel pair instead of 9, with little extra rounding error."""
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
"""F(4x4, 3x3): 2.25 multiplications; the rounding error is about ten times that of the direct convolution."""


class WinogradConv2d(nn.Module):
    """Inference-only Winograd form of a 3x3 convolution.

    The result differs from the direct convolution by rounding: with :data:`WINOGRAD_F4` about 1e-6 relative in float32, but 5e-2 in
    bfloat16, with :data:`WINOGRAD_F2` 5e-3 there. Scratch memory is several times the size of the map. Fastest on channels-last maps.

    Args:
        convolution: Convolution whose weights are copied.
        transforms: :data:`WINOGRAD_F2` or :data:`WINOGRAD_F4`.

    Raises:
        ValueError: If the convolution is not 3x3 with stride 1, padding 1 and a single group.
    """

    transformed_weight: Tensor
    input_transform: Tensor
    output_transform: Tensor

    def __init__(self, convolution: nn.Conv2d, transforms: WinogradTransforms = WINOGRAD_F4):
        super().__init__()
        if not supports_winograd(convolution):
            raise ValueError(
                f"Only 3x3 convolutions of stride 1 and padding 1 have a Winograd form, not {convolution}."
            )
        self.tile_size, self.input_tile_size = len(transforms.output), len(transforms.input)
        weight = convolution.weight.detach()
        rows = torch.tensor(transforms.filter, dtype=torch.float64)
        transformed = torch.einsum("ia,ocab,jb->ijco", rows, weight.double().cpu(), rows).flatten(0, 1)
        self.register_buffer("transformed_weight", transformed.to(weight).contiguous())  # [reads², C, C']
        self.register_buffer("input_transform", _transform_2d(transforms.input).to(weight))  # [reads², reads²]
        self.register_buffer("output_transform", _transform_2d(transforms.output).to(weight))  # [tile², reads²]
        self.bias = convolution.bias

    def forward(self, x: Tensor) -> Tensor:
        """``[B, C, H, W]`` → ``[B, C', H, W]``."""
        (batch, channels, height, width), tile, reads = x.shape, self.tile_size, self.input_tile_size
        down, across = -(-height // tile), -(-width // tile)
        padding = (0, 0, 1, tile * across + 1 - width, 1, tile * down + 1 - height)
        tiles = nnf.pad(x.permute(0, 2, 3, 1), padding).unfold(1, reads, tile).unfold(2, reads, tile)
        # A row holds one element of all tiles and channels.
        tiles = tiles.permute(4, 5, 0, 1, 2, 3).reshape(reads * reads, -1)
        products = torch.bmm((self.input_transform @ tiles).view(reads * reads, -1, channels), self.transformed_weight)
        cells = (self.output_transform @ products.view(reads * reads, -1)).view(tile, tile, batch, down, across, -1)
        y = cells.permute(2, 3, 0, 4, 1, 5).reshape(batch, tile * down, tile * across, -1)
        y = y[:, :height, :width].contiguous().permute(0, 3, 1, 2)
        return y if self.bias is None else y.add_(self.bias[:, None, None])


def supports_winograd(module: nn.Module) -> bool:
    """Return whether ``module`` is a 3x3 convolution with stride 1, zero padding 1 and a single group."""
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
    """Return the 2D transform of rows and columns as one matrix on the flattened tile."""
    matrix = torch.tensor(rows, dtype=torch.float64)
    return torch.kron(matrix, matrix)
