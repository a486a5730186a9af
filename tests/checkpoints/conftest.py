"""A module ``featlift.toys`` with parts, as the library has them."""

import sys
from dataclasses import dataclass
from types import ModuleType

import pytest
import torch
from torch import nn

from featlift.checkpoints.init_args import store_init_args


@pytest.fixture
def toys(monkeypatch):
    """``toys.Doubler(channels)``, ``toys.Tower(sizes, doublers)`` and ``toys.Loose()``, which does not remember."""

    @dataclass(frozen=True)
    class Size:
        width: int
        label: str = "x"

    @store_init_args()
    class Doubler(nn.Module):
        def __init__(self, channels: int, mode: str = "nearest", scale: float = 0.5):
            super().__init__()
            self.layer = nn.Conv2d(channels, channels, 3)

    @store_init_args()
    class Tower(nn.Module):
        def __init__(self, sizes: dict, doublers: list, size: object = None, top: nn.Module | None = None):
            super().__init__()
            self.doublers = nn.ModuleList(doublers)
            self.layers = nn.ModuleList(nn.Linear(n, 2) for n in sizes.values())
            self.norm, self.tied, self.size = nn.BatchNorm1d(2), self.layers[0], size

    @store_init_args()
    class Bare(nn.Module):
        """Nothing to learn, as a fixed interpolator."""

    class Loose(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(1, 1)

    module = ModuleType("featlift.toys")
    for kind in (Size, Doubler, Tower, Bare, Loose):
        kind.__module__, kind.__qualname__ = module.__name__, kind.__name__
        setattr(module, kind.__name__, kind)
    module.number = 3
    monkeypatch.setitem(sys.modules, module.__name__, module)
    torch.manual_seed(0)
    return module
