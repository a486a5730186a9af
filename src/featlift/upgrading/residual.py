"""What is added to an interpolation that exists: a learned part that adds exactly nothing until it is trained.

Interpolators that know the start "zero" stand beside the old interpolation as a residual whose last layer is zero. The others (CARAFE,
DySample, the fixed ones) cannot give zero, so they are blended in through a gate that is closed.
"""

import inspect
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from featlift.features import fit
from featlift.interpolators import INTERPOLATORS, PER_STEP, interpolator

ZERO_START = {"init": "zero", "shortcut": "none"}


class Residual(nn.Module):
    """``old + branch(x)``.

    Args:
        branch: ``[B, C, H, W]`` → ``[B, C, 2H, 2W]``, zero until trained.
    """

    def __init__(self, branch: nn.Module):
        super().__init__()
        self.branch = branch

    def forward(self, x: Tensor, old: Tensor) -> Tensor:
        """``x [B, C, H, W]`` and its old interpolation ``old [B, C, 2H, 2W]`` (or a cell less or more) → like ``old``."""
        return old + fit(self.branch(x), (old.shape[-2], old.shape[-1])).to(old.dtype)


class Blend(nn.Module):
    """``old + gate · (branch(x) - old)`` with one gate per channel; 0, the start, is the old interpolation and 1 the new one.

    Args:
        branch: ``[B, C, H, W]`` → ``[B, C, 2H, 2W]``.
        channels: C.
    """

    def __init__(self, branch: nn.Module, channels: int):
        super().__init__()
        self.branch = branch
        self.gate = nn.Parameter(torch.zeros(channels, 1, 1))

    def forward(self, x: Tensor, old: Tensor) -> Tensor:
        """``x [B, C, H, W]`` and its old interpolation ``old [B, C, 2H, 2W]`` (or a cell less or more) → like ``old``."""
        new = fit(self.branch(x), (old.shape[-2], old.shape[-1]))
        return old + (self.gate * (new - old)).to(old.dtype)


class Steps(nn.ModuleList):
    """The additions of the doublings that one forward makes, in their order.

    Args:
        additions: one for each doubling; doublings may share one, and None leaves a step as it was.
    """

    def __init__(self, additions: Sequence[nn.Module | None]):
        distinct = list(dict.fromkeys(a for a in additions if a is not None))
        super().__init__(distinct)
        self.which = tuple(None if a is None else distinct.index(a) for a in additions)

    def forward(self, step: int, x: Tensor, old: Tensor) -> Tensor:
        """``x [B, C, H, W]``, ``old [B, C, 2H, 2W]`` → like ``old``, by the addition of this step."""
        which = self.which[step]
        return old if which is None else self[which](x, old)


def addition(name: str, channels: int, options: dict[str, object]) -> nn.Module:
    """A new :class:`Residual` or :class:`Blend` around the interpolator called ``name``.

    Raises:
        ValueError: for an unknown name or option, or one that an upgrade sets itself (``init``, ``shortcut``).
    """
    own = sorted(set(options) & set(ZERO_START))
    if own:
        raise ValueError(
            f"An upgrade sets {' and '.join(own)} itself, because the new part has to start as zero; leave it out. "
            "To choose how an interpolator starts, build a pyramid with it."
        )
    known = inspect.signature(INTERPOLATORS[name]).parameters if name in INTERPOLATORS else {}
    start = {option: value for option, value in ZERO_START.items() if option in known}
    branch = interpolator(name, channels, **options, **start)
    return Residual(branch) if "init" in start else Blend(branch, channels)


def additions(name: str, channels: Sequence[int | None], options: dict[str, object]) -> list[nn.Module | None]:
    """An addition for each step of a pyramid, as the papers share them: one per number of channels, or one per step (:data:`PER_STEP`).

    ``channels`` are those of each step; None stands for a step that is left alone, and stays None.
    """
    shared: dict[int, nn.Module] = {}
    steps: list[nn.Module | None] = []
    for count in channels:
        if count is not None and (name in PER_STEP or count not in shared):
            shared[count] = addition(name, count, options)
        steps.append(None if count is None else shared[count])
    return steps
