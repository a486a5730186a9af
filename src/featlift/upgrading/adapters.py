"""Adapters: learned modules added to an existing interpolation, without effect until trained.

Interpolators with the initialization "zero" are added as a residual branch whose last layer is zero. The others (CARAFE, DySample, the
fixed interpolators) cannot output zero and are blended in through a gate that starts at zero.
"""

import inspect
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from featlift.features import crop_or_pad
from featlift.interpolators import INTERPOLATORS, PER_STEP_INTERPOLATORS, interpolator
from featlift.upgrading.interpolate_call import CallKey, is_2x_size

ZERO_INIT = {"init": "zero", "shortcut": "none"}


class NotScriptable:
    """Mixin of added modules: ``torch.jit.script`` of a network that contains them raises an error that says what to use instead."""

    def __prepare_scriptable__(self) -> None:
        """Called by ``torch.jit.script`` for every submodule. Raises RuntimeError."""
        raise RuntimeError(
            "torch.jit.script cannot compile an upgraded network. Use torch.jit.trace(model, image), torch.export or `featlift export`; or "
            "featlift.downgrade(model) first."
        )


class ResidualAdapter(NotScriptable, nn.Module):
    """``old + branch(x)``.

    Args:
        branch: Interpolator, ``[B, C, H, W]`` → ``[B, C, 2H, 2W]``; outputs zero until trained.
    """

    def __init__(self, branch: nn.Module):
        super().__init__()
        self.branch = branch

    def forward(self, x: Tensor, old: Tensor, guide: Tensor | None = None) -> Tensor:
        """Combine ``x [B, C, H, W]`` and its interpolation ``old [B, C, 2H ± 1, 2W ± 1]``; returns the shape of ``old``."""
        return old + crop_or_pad(self.branch(x, guide), (old.shape[-2], old.shape[-1])).to(old.dtype)


class GatedAdapter(NotScriptable, nn.Module):
    """``old + gate · (branch(x) - old)`` with one gate per channel: 0 (initial) is the old interpolation, 1 the new one.

    Args:
        branch: ``[B, C, H, W]`` → ``[B, C, 2H, 2W]``.
        channels: Channels C.
    """

    def __init__(self, branch: nn.Module, channels: int):
        super().__init__()
        self.branch = branch
        self.gate = nn.Parameter(torch.zeros(channels, 1, 1))

    def forward(self, x: Tensor, old: Tensor, guide: Tensor | None = None) -> Tensor:
        """Combine ``x [B, C, H, W]`` and its interpolation ``old [B, C, 2H ± 1, 2W ± 1]``; returns the shape of ``old``."""
        new = crop_or_pad(self.branch(x, guide), (old.shape[-2], old.shape[-1]))
        return old + (self.gate * (new - old)).to(old.dtype)


class StepAdapters(NotScriptable, nn.ModuleList):
    """Adapters of the upsampling steps of one forward pass, in order.

    Args:
        adapters: One adapter per step; steps may share an adapter, and None leaves a step unchanged.
    """

    def __init__(self, adapters: Sequence[nn.Module | None]):
        distinct = list(dict.fromkeys(a for a in adapters if a is not None))
        super().__init__(distinct)
        self.adapter_indices = tuple(None if a is None else distinct.index(a) for a in adapters)

    def forward(self, step: int, x: Tensor, old: Tensor, guide: Tensor | None = None) -> Tensor:
        """Apply the adapter of this step to ``x [B, C, H, W]`` and ``old [B, C, 2H, 2W]``; returns the shape of ``old``.

        ``guide`` is the lateral map of the finer level, where it is known (FPNs).
        """
        index = self.adapter_indices[step]
        return old if index is None else self[index](x, old, guide)


class CallAdapters(NotScriptable, nn.ModuleList):
    """Adapters of the interpolation calls in one ``forward``.

    Args:
        adapters: Call → adapter; calls may share an adapter.
    """

    def __init__(self, adapters: Mapping[CallKey, nn.Module]):
        distinct = list(dict.fromkeys(adapters.values()))
        super().__init__(distinct)
        self.adapter_indices = {key: distinct.index(adapter) for key, adapter in adapters.items()}

    def forward(self, key: CallKey, x: Tensor, old: Tensor) -> Tensor:
        """Apply the adapter of the call to ``x [B, C, H, W]`` and ``old [B, C, 2H ± 1, 2W ± 1]``; returns the shape of ``old``.

        Unknown calls, and known ones that do not upsample by 2 at this image size, return ``old`` itself.
        """
        index = self.adapter_indices.get(key)
        if index is None or not is_2x_size(x.shape[-2:], old.shape[-2:]):
            return old
        return self[index](x, old)


def build_adapter(name: str, channels: int, options: dict[str, object]) -> nn.Module:
    """Build a :class:`ResidualAdapter` or :class:`GatedAdapter` around the interpolator ``name`` with ``channels`` and ``options``.

    Raises:
        ValueError: For an unknown name or option, or an option set by the upgrade itself (``init``, ``shortcut``).
    """
    reserved = sorted(set(options) & set(ZERO_INIT))
    if reserved:
        raise ValueError(
            f"An upgrade sets {' and '.join(reserved)} itself, because the adapter starts at zero; remove this option. "
            "To choose the initialization of an interpolator, build a pyramid with it."
        )
    known = inspect.signature(INTERPOLATORS[name]).parameters if name in INTERPOLATORS else {}
    zero_init = {option: value for option, value in ZERO_INIT.items() if option in known}
    branch = interpolator(name, channels, **options, **zero_init)
    return ResidualAdapter(branch) if "init" in zero_init else GatedAdapter(branch, channels)


def build_adapters(
    name: str, step_channels: Sequence[int | None], options: dict[str, object]
) -> list[nn.Module | None]:
    """Build an adapter for each number of channels in ``step_channels``; None stays None, for a step without an adapter.

    As in the papers, steps with the same number of channels share an adapter, except for :data:`PER_STEP_INTERPOLATORS`.
    """
    shared: dict[int, nn.Module] = {}
    adapters: list[nn.Module | None] = []
    for channels in step_channels:
        if channels is not None and (name in PER_STEP_INTERPOLATORS or channels not in shared):
            shared[channels] = build_adapter(name, channels, options)
        adapters.append(None if channels is None else shared[channels])
    return adapters
