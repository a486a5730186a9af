"""Discriminators for descriptors (FSR-GAN, CVPR 2018, Sec. 3.3 and Table 3)."""

import math

from torch import Tensor, nn

from featlift.checkpoints.init_args import store_init_args
from featlift.retrieval.generator import descriptor_grid_side, same_padding_conv


@store_init_args()
class DescriptorDiscriminator(nn.Module):
    """The paper's discriminator D (Table 3): the descriptor is reshaped to a √D × √D grid; four convolutions, one linear layer, no
    final activation.

    30,657 parameters at ``dimension`` 4096. ``gain`` multiplies the input and divides the score, as in the generator,
    so the Lipschitz constant with respect to unit vectors is unchanged.

    Args:
        dimension: D, the square of a multiple of 8.
        gain: Factor on the input, divided out of the score; √D by default, 1 for the network as printed.
    """

    def __init__(self, dimension: int = 4096, gain: float | None = None):
        super().__init__()
        self.grid_side = descriptor_grid_side(dimension)
        self.gain = math.sqrt(dimension) if gain is None else gain
        table = [(1, 8, 5, 2), (8, 16, 5, 2), (16, 32, 3, 2), (32, 64, 3, 1)]
        self.convolutions = nn.Sequential(*[same_padding_conv(*row) for row in table])
        self.last = nn.Linear(64 * (self.grid_side // 8) ** 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Descriptors ``[B, D]`` → scores ``[B]``, higher for descriptors of high-resolution images."""
        grid = (self.gain * x).view(-1, 1, self.grid_side, self.grid_side)
        return self.last(self.convolutions(grid).flatten(1))[:, 0] / self.gain


@store_init_args()
class MLPDiscriminator(nn.Module):
    """Discriminator for descriptors of any dimension: an MLP with two hidden layers, which assumes no spatial structure.

    Args:
        dimension: D.
        hidden_dim: Width of the hidden layers.
    """

    def __init__(self, dimension: int, hidden_dim: int = 256):
        super().__init__()
        self.gain = math.sqrt(dimension)
        layers = [
            nn.Linear(dimension, hidden_dim),
            nn.LeakyReLU(0.2),
            nn.Linear(hidden_dim, hidden_dim),
            nn.LeakyReLU(0.2),
        ]
        self.layers = nn.Sequential(*layers, nn.Linear(hidden_dim, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Descriptors ``[B, D]`` → scores ``[B]``, higher for descriptors of high-resolution images."""
        return self.layers(self.gain * x)[:, 0] / self.gain
