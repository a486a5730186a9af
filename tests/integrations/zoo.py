"""Networks of other libraries, built without weights, small where the library permits it, with the upsampling steps counted by hand.

``steps`` and ``neck`` are read off the source code of each network: how many calls enlarge a feature map by 2, and in which module. A
network that has none has ``steps=0``.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

Sizes = tuple[tuple[int, int], ...]
"""(H, W) in pixels."""


@dataclass(frozen=True)
class ZooEntry:
    """One network.

    Attributes:
        name: Name in the table.
        package: Distribution of the library, for its version.
        module: Package to import; the entry is skipped without it.
        build: Returns the network, in evaluation mode.
        steps: Number of calls that upsample a feature map by 2, counted by hand.
        neck: Nearest module that contains them.
        sizes: (H, W) in pixels of the images that the plain network takes.
        make_inputs: (H, W) → example inputs; None is a noise image.
        source: Where the calls are in the source code of the library.
        note: What a reader of the table should know.
    """

    name: str
    package: str
    module: str
    build: Callable[[], nn.Module]
    steps: int
    neck: str = ""
    sizes: Sizes = ((128, 128), (64, 96), (64, 64), (96, 64), (160, 64))
    make_inputs: Callable[[tuple[int, int]], Any] | None = None
    source: str = ""
    note: str = ""


ANY_SIZES = ((128, 128), (67, 97), (64, 64), (95, 50), (131, 71))
"""Sizes of networks that take odd ones."""


def noise(size: tuple[int, int], batch: int = 1) -> torch.Tensor:
    """Return a noise image ``[batch, 3, H, W]`` in 0…1."""
    return torch.rand(batch, 3, *size, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def with_norm_statistics(network: nn.Module) -> nn.Module:
    """Set the statistics of all batch norms to those of noise images; with the initial ones, the maps of random weights may vanish."""
    for module in network.eval().modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
            module.train()
    network(noise((128, 128), batch=2))
    return network.eval()


def random_network(build: Callable[[], nn.Module]) -> nn.Module:
    """Return the network from a fixed random state, in evaluation mode."""
    torch.manual_seed(0)
    return build().eval()
