"""What is added to an interpolation that exists: a learned part that adds exactly nothing until it is trained.

Interpolators that know the start "zero" stand beside the old interpolation as a residual whose last layer is zero. The others (CARAFE,
DySample, the fixed ones) cannot give zero, so they are blended in through a gate that is closed.
"""

import inspect
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from featlift.features import crop_or_pad
from featlift.interpolators import INTERPOLATORS, PER_STEP_INTERPOLATORS, interpolator

ZERO_INIT = {"init": "zero", "shortcut": "none"}


class ResidualAdapter(nn.Module):
    """``old + branch(x)``.

    Args:
        branch: ``[B, C, H, W]`` → ``[B, C, 2H, 2W]``, zero until trained.
    """

    def __init__(self, branch: nn.Module):
        super().__init__()
        self.branch = branch

    def forward(self, x: Tensor, old: Tensor) -> Tensor:
        """``x [B, C, H, W]`` and its old interpolation ``old [B, C, 2H, 2W]`` (or a cell less or more) → like ``old``."""
        return old + crop_or_pad(self.branch(x), (old.shape[-2], old.shape[-1])).to(old.dtype)


class GatedAdapter(nn.Module):
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
        new = crop_or_pad(self.branch(x), (old.shape[-2], old.shape[-1]))
        return old + (self.gate * (new - old)).to(old.dtype)


class StepAdapters(nn.ModuleList):
    """The additions of the doublings that one forward makes, in their order.

    Args:
        adapters: one for each doubling; doublings may share one, and None leaves a step as it was.
    """

    def __init__(self, adapters: Sequence[nn.Module | None]):
        distinct = list(dict.fromkeys(a for a in adapters if a is not None))
        super().__init__(distinct)
        self.adapter_indices = tuple(None if a is None else distinct.index(a) for a in adapters)

    def forward(self, step: int, x: Tensor, old: Tensor) -> Tensor:
        """``x [B, C, H, W]``, ``old [B, C, 2H, 2W]`` → like ``old``, by the addition of this step."""
        which = self.adapter_indices[step]
        return old if which is None else self[which](x, old)


def build_adapter(name: str, channels: int, options: dict[str, object]) -> nn.Module:
    """A new :class:`ResidualAdapter` or :class:`GatedAdapter` around the interpolator called ``name``.

    Raises:
        ValueError: for an unknown name or option, or one that an upgrade sets itself (``init``, ``shortcut``).
    """
    own = sorted(set(options) & set(ZERO_INIT))
    if own:
        raise ValueError(
            f"An upgrade sets {' and '.join(own)} itself, because the new part has to start as zero; leave it out. "
            "To choose how an interpolator starts, build a pyramid with it."
        )
    known = inspect.signature(INTERPOLATORS[name]).parameters if name in INTERPOLATORS else {}
    start = {option: value for option, value in ZERO_INIT.items() if option in known}
    branch = interpolator(name, channels, **options, **start)
    return ResidualAdapter(branch) if "init" in start else GatedAdapter(branch, channels)


def build_adapters(
    name: str, step_channels: Sequence[int | None], options: dict[str, object]
) -> list[nn.Module | None]:
    """An addition for each step of a pyramid, as the papers share them: one per number of channels, or one per step (:data:`PER_STEP_INTERPOLATORS`).

    ``step_channels`` are those of each step; None stands for a step that is left alone, and stays None.
    """
    shared: dict[int, nn.Module] = {}
    steps: list[nn.Module | None] = []
    for count in step_channels:
        if count is not None and (name in PER_STEP_INTERPOLATORS or count not in shared):
            shared[count] = build_adapter(name, count, options)
        steps.append(None if count is None else shared[count])
    return steps
