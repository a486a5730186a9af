"""Generators for descriptors: the descriptor of a small picture in, what the large picture would have given out.

Tan, Yan and Bare, "Feature Super-Resolution: Make Machine See More Clearly", CVPR 2018, Sec. 3.3. Every generator has
one contract, ``forward(x [B, D], ratio [B] | None) → [B, D]``: ``x`` are unit vectors, ``ratio`` ≥ 1 says how many
times smaller each side of the picture was (8 = one eighth per side, the paper's "1/64"). Blind generators take the
ratio and do not look at it.
"""

import math

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

from featlift.checkpoints.init_args import store_init_args


def super_resolve_descriptors(generator: nn.Module, descriptors: Tensor, ratio: Tensor | None = None) -> Tensor:
    """Unit vectors ``[B, D]`` for searching: ``generator(descriptors, ratio)``, without gradient, normalized again.

    Eq. (3). Training compares the raw output with the unit target; a search compares angles, so the length has to go.
    """
    with torch.no_grad():
        return nnf.normalize(generator(descriptors, ratio), dim=1)


@store_init_args()
class DescriptorGenerator(nn.Module):
    """The paper's G (Table 2): the descriptor read as a √D × √D picture, six convolutions and one linear layer.

    33,831,836 parameters at ``dimension`` 4096. LeakyReLU after every layer, the last included ("all layers"), so this
    one is for descriptors that were themselves rectified. Entries of a unit vector are about 1/√D and nearly vanish in
    the biases; ``gain`` multiplies the input and divides the output (√D unless given; 1 is the network as printed,
    which ends in one constant direction).

    Args:
        dimension: D, the square of a multiple of 8 (4096 in the paper).
        dropout: probability that dropout sets a value to zero. The paper's "70%" is read as TensorFlow 1's *keep*
            probability.
        gain: factor on the input, divided out again at the end.
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
        picture = (self.gain * x).view(-1, 1, self.grid_side, self.grid_side)
        hidden = self.dropout(self.convolutions(picture).flatten(1))
        return nnf.leaky_relu(self.last(hidden), 0.2) / self.gain


@store_init_args()
class ResidualGenerator(nn.Module):
    """The default: ``x + gate(x) · correction(x)``, for descriptors of any dimension. Blind: one model for every ratio.

    The last layer of the correction starts at zero, so an untrained generator is the identity and sharp queries are
    safe from the first step. The gate, one number in 0…1 per descriptor, learns how much was lost, which is what the
    ratio would have told; it can close altogether (a hard sigmoid).

    Args:
        dimension: D.
        hidden_dim: width of the two hidden layers.
        dropout: dropout on what the correction sees; the shortcut is never dropped.
        rank: corrections are mixtures of so many learned directions; 0 allows any. Few directions can say "sharper", but
            not what this picture looked like, which is safer where little is known.
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
    """``x + (1 - 1/ratio) · correction(x, ratio)``: told how much was lost; exactly the identity at ratio 1.

    The correction sees log₂ of the ratio beside the descriptor, so ratios between the trained ones are meaningful.

    Args:
        dimension: D.
        hidden_dim: width of the two hidden layers.
        dropout: dropout on what the correction sees.
        rank: as in :class:`ResidualGenerator`.
    """

    def __init__(self, dimension: int, hidden_dim: int = 1024, dropout: float = 0.1, rank: int = 0):
        super().__init__()
        self.gain = math.sqrt(dimension)
        self.hidden = _hidden_layers(dimension + 1, hidden_dim, dropout)
        self.correction = _correction_layer(hidden_dim, rank, dimension)

    def forward(self, x: Tensor, ratio: Tensor | None = None) -> Tensor:
        """``[B, D]`` and ``ratio [B]`` → ``[B, D]``.

        Raises:
            ValueError: if no ratio is given.
        """
        told = require_ratio(ratio).to(x)[:, None]
        hidden = self.hidden(torch.cat([self.gain * x, told.log2()], dim=1))
        return x + (1 - 1 / told) * self.correction(hidden) / self.gain


def _hidden_layers(in_features: int, width: int, dropout: float) -> nn.Sequential:
    first = [nn.Dropout(dropout), nn.Linear(in_features, width), nn.LeakyReLU(0.2)]
    return nn.Sequential(*first, nn.Linear(width, width), nn.LeakyReLU(0.2))


def _correction_layer(hidden_dim: int, rank: int, dimension: int) -> nn.Module:
    """The last layer, which starts at zero."""
    if rank < 0:
        raise ValueError(f"The rank is {rank}; it is a number of directions, or 0 for any correction.")
    if rank == 0:
        return _zero_init(nn.Linear(hidden_dim, dimension))
    return nn.Sequential(nn.Linear(hidden_dim, rank), _zero_init(nn.Linear(rank, dimension, bias=False)))


def _zero_init(layer: nn.Linear) -> nn.Linear:
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


def require_ratio(ratio: Tensor | None) -> Tensor:
    """``ratio``, where a generator cannot do without.

    Raises:
        ValueError: if it is ``None``.
    """
    if ratio is None:
        raise ValueError(
            "This generator has to be told the ratio [B] of each query; take a blind one (ResidualGenerator)."
        )
    return ratio


def descriptor_grid_side(dimension: int) -> int:
    """√D, the side of the picture as which a descriptor of ``dimension`` D is read (4096 → 64).

    Raises:
        ValueError: if D is not the square of a multiple of 8.
    """
    side = math.isqrt(dimension)
    if side * side != dimension or side % 8:
        raise ValueError(
            f"A descriptor of {dimension} numbers is no square picture (a side divisible by 8: 64, 256 … 4096). "
            "For other dimensions take ResidualGenerator with DenseCritic."
        )
    return side


def same_padding_conv(in_channels: int, out_channels: int, kernel_size: int, stride: int) -> nn.Sequential:
    """Convolution with TensorFlow's "SAME" padding (the odd one at the bottom and right) and LeakyReLU: ``H → H /
    stride``.
    """
    before = (kernel_size - stride) // 2
    after = kernel_size - stride - before
    pad = nn.ZeroPad2d((before, after, before, after))
    return nn.Sequential(pad, nn.Conv2d(in_channels, out_channels, kernel_size, stride), nn.LeakyReLU(0.2))
