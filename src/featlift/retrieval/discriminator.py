"""Critics for descriptors. FSR-GAN, CVPR 2018, Sec. 3.3 and Table 3."""

import math

from torch import Tensor, nn

from featlift.checkpoints.init_args import remember
from featlift.retrieval.generator import picture_side, same_convolution


@remember()
class DescriptorCritic(nn.Module):
    """The paper's D (Table 3): the descriptor read as a √D × √D picture, four convolutions, one linear layer, no final
    activation.

    30,657 parameters at ``dimension`` 4096. ``gain`` multiplies the input and divides the score, as in the generator,
    so a slope of 1 is a slope of 1 between unit vectors.

    Args:
        dimension: D, the square of a multiple of 8.
        gain: factor on the input, divided out of the score; √D unless given, 1 is the network as printed.
    """

    def __init__(self, dimension: int = 4096, gain: float | None = None):
        super().__init__()
        self.side = picture_side(dimension)
        self.gain = math.sqrt(dimension) if gain is None else gain
        table = [(1, 8, 5, 2), (8, 16, 5, 2), (16, 32, 3, 2), (32, 64, 3, 1)]
        self.convolutions = nn.Sequential(*[same_convolution(*row) for row in table])
        self.last = nn.Linear(64 * (self.side // 8) ** 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Descriptors ``[B, D]`` → scores ``[B]``, higher for "from a large picture"."""
        picture = (self.gain * x).view(-1, 1, self.side, self.side)
        return self.last(self.convolutions(picture).flatten(1))[:, 0] / self.gain


@remember()
class DenseCritic(nn.Module):
    """The critic for descriptors of any dimension: two hidden layers, which assume no neighbourhood among the D
    numbers.

    Args:
        dimension: D.
        hidden: width of the hidden layers.
    """

    def __init__(self, dimension: int, hidden: int = 256):
        super().__init__()
        self.gain = math.sqrt(dimension)
        layers = [nn.Linear(dimension, hidden), nn.LeakyReLU(0.2), nn.Linear(hidden, hidden), nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*layers, nn.Linear(hidden, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Descriptors ``[B, D]`` → scores ``[B]``, higher for "from a large picture"."""
        return self.layers(self.gain * x)[:, 0] / self.gain
