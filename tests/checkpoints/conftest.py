"""A package module ``featlift.toys`` with classes that store their arguments."""

import sys
from dataclasses import dataclass
from types import ModuleType

import pytest
import torch
from torch import nn

from featlift.checkpoints.init_args import store_init_args


@pytest.fixture
def toys(monkeypatch):
    """``toys.Upsampler(channels)``, ``toys.Tower(sizes, upsamplers)`` and ``toys.Undecorated()``, which does not store its arguments."""

    @dataclass(frozen=True)
    class Size:
        width: int
        label: str = "x"

    @store_init_args()
    class Upsampler(nn.Module):
        def __init__(self, channels: int, mode: str = "nearest", scale: float = 0.5):
            super().__init__()
            self.layer = nn.Conv2d(channels, channels, 3)

    @store_init_args()
    class Tower(nn.Module):
        def __init__(self, sizes: dict, upsamplers: list, size: object = None, top: nn.Module | None = None):
            super().__init__()
            self.upsamplers = nn.ModuleList(upsamplers)
            self.layers = nn.ModuleList(nn.Linear(n, 2) for n in sizes.values())
            self.norm, self.tied, self.size = nn.BatchNorm1d(2), self.layers[0], size

    @store_init_args()
    class Bare(nn.Module):
        """No parameters, as a fixed interpolator."""

    class Undecorated(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(1, 1)

    module = ModuleType("featlift.toys")
    for cls in (Size, Upsampler, Tower, Bare, Undecorated):
        cls.__module__, cls.__qualname__ = module.__name__, cls.__name__
        setattr(module, cls.__name__, cls)
    module.number = 3
    monkeypatch.setitem(sys.modules, module.__name__, module)
    torch.manual_seed(0)
    return module
