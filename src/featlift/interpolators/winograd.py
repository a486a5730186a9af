"""A 3x3 convolution with a quarter of the multiplications (Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016).

Libraries for CPUs leave this form out; here it is 36 products of matrices, which they are good at.
"""

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

TILE = 4
"""Output cells per side of a tile; it reads two more."""
INPUT = (
    (4, 0, -5, 0, 1, 0),
    (0, -4, -4, 1, 1, 0),
    (0, 4, -4, -1, 1, 0),
    (0, -2, -1, 2, 1, 0),
    (0, 2, -1, -2, 1, 0),
    (0, 4, 0, -5, 0, 1),
)
FILTER = ((6, 0, 0), (-4, -4, -4), (-4, 4, -4), (1, 2, 4), (1, -2, 4), (0, 0, 24))
"""Times 24."""
OUTPUT = ((1, 1, 1, 1, 1, 0), (0, 1, -1, 2, -2, 0), (0, 1, 1, 4, 4, 0), (0, 1, -1, 8, -8, 1))


class Winograd(nn.Module):
    """F(4x4, 3x3): each tile of 6x6 cells is transformed, multiplied with the transformed filters at its 36 places, and transformed back.

    2.25 multiplications an output cell and pair of channels instead of 9; the answer differs from the sum over taps by rounding, about
    1e-6 relative in float32. Its scratch space is seven times its map. Best with maps in channels-last memory.

    Args:
        convolution: whose weights are copied.

    Raises:
        ValueError: if it is not 3x3 of stride 1 and padding 1 in one group.
    """

    filters: Tensor
    there: Tensor
    back: Tensor

    def __init__(self, convolution: nn.Conv2d):
        super().__init__()
        if not fits(convolution):
            raise ValueError(f"Only 3x3 convolutions of stride 1 and padding 1 have this form; this is {convolution}.")
        weight = convolution.weight.detach()
        rows = torch.tensor(FILTER, dtype=torch.float64) / 24
        filters = torch.einsum("ia,ocab,jb->ijco", rows, weight.double().cpu(), rows).flatten(0, 1)
        self.register_buffer("filters", filters.to(weight).contiguous())  # [36, C, C']
        self.register_buffer("there", _both_sides(INPUT).to(weight))  # [36, 36]
        self.register_buffer("back", _both_sides(OUTPUT).to(weight))  # [16, 36]
        self.bias = convolution.bias

    def forward(self, x: Tensor) -> Tensor:
        """``[B, C, H, W]`` → ``[B, C', H, W]``."""
        batch, channels, height, width = x.shape
        down, across = -(-height // TILE), -(-width // TILE)
        margins = (0, 0, 1, TILE * across + 1 - width, 1, TILE * down + 1 - height)
        tiles = nnf.pad(x.permute(0, 2, 3, 1), margins).unfold(1, TILE + 2, TILE).unfold(2, TILE + 2, TILE)
        tiles = tiles.permute(4, 5, 0, 1, 2, 3).reshape(36, -1)  # each row: one place of all tiles, all channels
        places = torch.bmm((self.there @ tiles).view(36, -1, channels), self.filters)
        cells = (self.back @ places.view(36, -1)).view(TILE, TILE, batch, down, across, -1)
        y = cells.permute(2, 3, 0, 4, 1, 5).reshape(batch, TILE * down, TILE * across, -1)
        y = y[:, :height, :width].contiguous().permute(0, 3, 1, 2)
        return y if self.bias is None else y.add_(self.bias[:, None, None])


def fits(module: nn.Module) -> bool:
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


def _both_sides(rows: tuple[tuple[int, ...], ...]) -> Tensor:
    """The transform of rows and columns as one matrix on the places of a tile."""
    matrix = torch.tensor(rows, dtype=torch.float64)
    return torch.kron(matrix, matrix)
