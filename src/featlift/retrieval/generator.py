"""Generators for descriptors: map the descriptor of a low-resolution image to that of the high-resolution image.

Tan, Yan and Bare, "Feature Super-Resolution: Make Machine See More Clearly", CVPR 2018, Sec. 3.3. All generators share
the interface ``forward(x [B, D], ratio [B] | None) → [B, D]``: ``x`` are unit vectors, ``ratio`` ≥ 1 is the downscaling
factor per side of the image (8 = one eighth per side, the paper's "1/64"). Blind generators ignore the ratio.
"""

import math

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

from featlift.checkpoints.init_args import store_init_args
from featlift.device import device_of

GENERATOR_FILE = "generator.safetensors"
"""File of the generator in a run folder."""


def super_resolve_descriptors(generator: nn.Module, descriptors: Tensor, ratio: Tensor | None = None) -> Tensor:
    """Super-resolve ``descriptors [B, D]`` for search (Eq. (3)): the L2-normalized output of ``generator``, without gradient.

    The training loss uses the unnormalized output; search compares angles, which requires unit vectors. The result is on the device of
    ``descriptors``, on whichever device the generator is.
    """
    device = device_of(generator)
    with torch.no_grad():
        output = generator(descriptors.to(device), None if ratio is None else ratio.to(device))
        return nnf.normalize(output, dim=1).to(descriptors.device)


@store_init_args()
class IdentityGenerator(nn.Module):
    """Returns the descriptor unchanged; the papers' "raw representation"."""

    def forward(self, x: Tensor, ratio: Tensor | None = None) -> Tensor:
        """``[B, D]`` → the same ``[B, D]``."""
        return x


@store_init_args()
class DescriptorGenerator(nn.Module):
    """The paper's generator G (Table 2): the descriptor is reshaped to a √D × √D grid; six convolutions and one linear layer.

    33,831,836 parameters at ``dimension`` 4096. LeakyReLU follows every layer, the last included ("all layers"), so it
    is for rectified descriptors. Elements of a unit vector are about 1/√D, small compared with the biases, so
    ``gain`` multiplies the input and divides the output (√D by default; with 1, the network as printed, all outputs have
    nearly the same direction).

    Args:
        dimension: D, the square of a multiple of 8 (4096 in the paper).
        dropout: Probability of zeroing a value. The paper's "70%" is read as TensorFlow 1's *keep* probability.
        gain: Factor on the input, divided out of the output; √D by default.
    """

    def __init__(self, dimension: int = 4096, dropout: float = 0.3, gain: float | None = None):
        super().__init__()
        self.grid_side = descriptor_grid_side(dimension)
        self.gain = math.sqrt(dimension) if gain is None else gain
        table = [(1, 4, 8, 1), (4, 8, 5, 2), (8, 16, 5, 1), (16, 32, 5, 2), (32, 64, 5, 1), (64, 128, 5, 2)]
        self.convolutions = nn.Sequential(*[same_padding_conv(*row) for row in table])
        self.dropout = nn.Dropout(dropout)
        self.last = nn.Linear(128 * (self.grid_side // 8) ** 2, dimension)

    def forward(self, x: Tensor, ratio: Tensor | None = None) -> Tensor:
        """``[B, D]`` → ``[B, D]``; blind, ``ratio`` is not used."""
        grid = (self.gain * x).view(-1, 1, self.grid_side, self.grid_side)
        hidden = self.dropout(self.convolutions(grid).flatten(1))
        return nnf.leaky_relu(self.last(hidden), 0.2) / self.gain


@store_init_args()
class ResidualGenerator(nn.Module):
    """The default generator: ``x + gate(x) · correction(x)``, for descriptors of any dimension. Blind: one model for every ratio.

    The last layer of the correction is zero-initialized, so an untrained generator is the identity and full-resolution queries are
    preserved from the first step. The gate, one value in 0…1 per descriptor, estimates the loss of resolution in place of the
    ratio; as a hard sigmoid, it can be exactly zero.

    Args:
        dimension: D.
        hidden_dim: Width of the two hidden layers.
        dropout: Dropout probability on the input of the hidden layers; the skip connection has none.
        rank: Rank of the correction (number of learned directions); 0 for no limit. A low rank cannot
            add image-specific detail, which is safer if little information is left.
    """

    def __init__(self, dimension: int, hidden_dim: int = 1024, dropout: float = 0.1, rank: int = 0):
        super().__init__()
        self.gain = math.sqrt(dimension)
        self.hidden = _hidden_layers(dimension, hidden_dim, dropout)
        self.correction = _correction_layer(hidden_dim, rank, dimension)
        self.gate = nn.Linear(hidden_dim, 1)

    def forward(self, x: Tensor, ratio: Tensor | None = None) -> Tensor:
        """``[B, D]`` → ``[B, D]``; blind, ``ratio`` is not used."""
        hidden = self.hidden(self.gain * x)
        return x + nnf.hardsigmoid(self.gate(hidden)) * self.correction(hidden) / self.gain


@store_init_args()
class ConditionedGenerator(nn.Module):
    """``x + (1 - 1/ratio) · correction(x, ratio)``: conditioned on the ratio; exactly the identity at ratio 1.

    The input of the correction is the descriptor and log₂ of the ratio, so it interpolates between the trained ratios.

    Args:
        dimension: D.
        hidden_dim: Width of the two hidden layers.
        dropout: Dropout probability on the input of the hidden layers.
        rank: Rank of the correction, as in :class:`ResidualGenerator`.
    """

    def __init__(self, dimension: int, hidden_dim: int = 1024, dropout: float = 0.1, rank: int = 0):
        super().__init__()
        self.gain = math.sqrt(dimension)
        self.hidden = _hidden_layers(dimension + 1, hidden_dim, dropout)
        self.correction = _correction_layer(hidden_dim, rank, dimension)

    def forward(self, x: Tensor, ratio: Tensor | None = None) -> Tensor:
        """``[B, D]`` and ``ratio [B]`` → ``[B, D]``.

        Raises:
            ValueError: If no ratio is given.
        """
        ratio = require_ratio(ratio).to(x)[:, None]
        hidden = self.hidden(torch.cat([self.gain * x, ratio.log2()], dim=1))
        return x + (1 - 1 / ratio) * self.correction(hidden) / self.gain


def _hidden_layers(in_features: int, width: int, dropout: float) -> nn.Sequential:
    first = [nn.Dropout(dropout), nn.Linear(in_features, width), nn.LeakyReLU(0.2)]
    return nn.Sequential(*first, nn.Linear(width, width), nn.LeakyReLU(0.2))


def _correction_layer(hidden_dim: int, rank: int, dimension: int) -> nn.Module:
    """Zero-initialized output layer, of limited rank if ``rank`` is positive."""
    if rank < 0:
        raise ValueError(f"rank is {rank}; give a positive rank, or 0 for no limit.")
    if rank == 0:
        return _zero_init(nn.Linear(hidden_dim, dimension))
    return nn.Sequential(nn.Linear(hidden_dim, rank), _zero_init(nn.Linear(rank, dimension, bias=False)))


def _zero_init(layer: nn.Linear) -> nn.Linear:
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


def require_ratio(ratio: Tensor | None) -> Tensor:
    """Return ``ratio``.

    Raises:
        ValueError: If it is ``None``.
    """
    if ratio is None:
        raise ValueError("This generator needs the ratio [B] of each query; give it or use ResidualGenerator (blind).")
    return ratio


def descriptor_grid_side(dimension: int) -> int:
    """Return √D, the side of the square grid to which a descriptor of ``dimension`` D is reshaped (4096 → 64).

    Raises:
        ValueError: If D is not the square of a multiple of 8.
    """
    side = math.isqrt(dimension)
    if side * side != dimension or side % 8:
        raise ValueError(
            f"A descriptor of {dimension} numbers is not a square grid with a side divisible by 8 (64, 256 … 4096). "
            "For other dimensions use ResidualGenerator with MLPDiscriminator."
        )
    return side


def same_padding_conv(in_channels: int, out_channels: int, kernel_size: int, stride: int) -> nn.Sequential:
    """Build a convolution with TensorFlow's "SAME" padding (odd pixel at the bottom and right) and LeakyReLU: ``H → H / stride``."""
    before = (kernel_size - stride) // 2
    after = kernel_size - stride - before
    pad = nn.ZeroPad2d((before, after, before, after))
    return nn.Sequential(pad, nn.Conv2d(in_channels, out_channels, kernel_size, stride), nn.LeakyReLU(0.2))
