"""What a module becomes when it is upgraded.

An upgraded module is the same object with a new class and one more child, ``added`` (as ``torch.nn.utils.parametrize`` does it). So hooks,
references, attributes that other libraries hang on modules, and the names in the state dict all stay; ``restore`` undoes it.
"""

import functools
from typing import Any

import torch.nn.functional as nnf
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torchvision.ops.feature_pyramid_network import FeaturePyramidNetwork

from featlift.features import Features
from featlift.interpolators.fixed import FixedInterpolator
from featlift.pyramids import FPN
from featlift.upgrading.residual import StepAdapters
from featlift.upgrading.tracing import is_2x_size, is_feature_map


class UpgradedFPN(FPN):
    """torchvision's ``FeaturePyramidNetwork`` with an addition to each of its doublings. Made by :meth:`upgrade_detector`.

    Unlike our own FPN it keeps the names of the levels, and a step that does not double is left to torchvision's interpolation.
    """

    added: StepAdapters

    @classmethod
    def upgrade(cls, pyramid: FeaturePyramidNetwork, added: StepAdapters) -> None:
        """Turn ``pyramid`` into one of these; ``added`` has an addition for each step, coarse → fine."""
        swap_class(pyramid, cls)
        pyramid.added = added.train(pyramid.training)

    def restore(self) -> None:
        """Make it torchvision's again."""
        del self.added
        swap_class(self, FeaturePyramidNetwork)

    def forward(self, x: Features) -> Features:
        """Maps ``[B, C_i, H, W]``, fine → coarse, by any names → maps ``[B, C, H, W]`` of these names, and what ``extra_blocks`` adds."""
        return self.outputs(x, self.inner_maps(x))

    def outputs(self, x: Features, inner: list[Tensor]) -> Features:
        """What :meth:`forward` gives for ``x``, from the :meth:`inner_maps` that are already there."""
        smoothed, names = [smooth(m) for smooth, m in zip(self.layer_blocks, inner, strict=True)], list(x)
        if self.extra_blocks is not None:
            smoothed, names = self.extra_blocks(smoothed, list(x.values()), names)
        return dict(zip(names, smoothed, strict=True))

    def upsample(self, step: int, x: Tensor, size: tuple[int, int]) -> Tensor:
        """``x [B, C, H, W]`` at ``size``: torchvision's nearest interpolation and the addition of this step (0 is the coarsest)."""
        return self.added(step, x, nnf.interpolate(x, size=size, mode="nearest"))


class UpgradedFixed(nn.Module):
    """One of our fixed interpolators and an addition to it; itself an interpolator.

    Args:
        fixed: the interpolation that was there.
        added: a :class:`~featlift.upgrading.residual.ResidualAdapter` or ``Blend``.
    """

    def __init__(self, fixed: FixedInterpolator, added: nn.Module):
        super().__init__()
        self.fixed = fixed
        self.added = added

    def forward(self, x: Tensor) -> Tensor:
        """``[B, C, H, W]`` → ``[B, C, 2H, 2W]``."""
        return self.added(x, self.fixed(x))


class UpgradedUpsample(nn.Upsample):
    """``nn.Upsample`` to twice the size, with an addition. Made by :meth:`upgrade_detector`."""

    added: nn.Module
    original_class: type[nn.Upsample]

    @classmethod
    def upgrade(cls, upsample: nn.Upsample, added: nn.Module) -> None:
        """Turn ``upsample`` into one of these."""
        plain = type(upsample)
        swap_class(upsample, cls)
        upsample.__dict__["plain"] = plain
        upsample.added = added.train(upsample.training)

    def restore(self) -> None:
        """Make it what it was."""
        plain = self.original_class
        del self.added, self.original_class
        swap_class(self, plain)

    def forward(self, input: Tensor) -> Tensor:
        """``[B, C, H, W]`` → ``[B, C, 2H, 2W]``."""
        return self.added(input, super().forward(input))


class UpgradedNeck(nn.Module):
    """Put before a foreign class (see :func:`upgraded_neck_class`): every doubling in its ``forward`` gets an addition.

    Only calls of ``torch.nn.functional.interpolate`` that double a floating-point ``[B, C, H, W]`` count, and only while this
    ``forward`` runs.
    """

    added: StepAdapters
    original_class: type[nn.Module]

    @classmethod
    def upgrade(cls, neck: nn.Module, added: StepAdapters) -> None:
        """Turn ``neck`` into a redirected version of its class; ``added`` has an addition for each doubling, in the order of the calls."""
        swap_class(neck, upgraded_neck_class(type(neck)))
        neck.added = added.train(neck.training)

    def restore(self) -> None:
        """Make it what it was."""
        del self.added
        swap_class(self, self.original_class)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the foreign ``forward`` takes and gives, shapes unchanged; inside, each ``[B, C, H, W]`` → ``[B, C, 2H, 2W]`` is added to.

        Raises:
            RuntimeError: if it doubled more or fewer maps than there are additions.
        """
        sites: list[str] = []
        with _InterpolateInterceptor(self.added, sites):
            answer = super().forward(*args, **kwargs)
        if len(sites) != len(self.added.adapter_indices):
            raise RuntimeError(_miscount_message(len(self.added.adapter_indices), sites))
        return answer

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Copied and pickled by the foreign class: ours is made on the fly and has no name to be found by."""
        return _new_instance, (self.original_class,), self.__dict__


@functools.cache
def upgraded_neck_class(original_class: type[nn.Module]) -> type[UpgradedNeck]:
    """The class ``original_class`` behind :class:`UpgradedNeck`; ``isinstance(…, plain)`` stays true."""
    return type(f"Upgraded{original_class.__name__}", (UpgradedNeck, original_class), {"plain": original_class})


def swap_class(module: Any, new_class: type[nn.Module]) -> None:
    """Make ``module`` an instance of ``new_class``; nothing else about it changes."""
    module.__class__ = new_class


def _new_instance(original_class: type[nn.Module]) -> nn.Module:
    kind = upgraded_neck_class(original_class)
    return kind.__new__(kind)


class _InterpolateInterceptor(TorchFunctionMode):
    def __init__(self, added: StepAdapters, calls: list[str]):
        super().__init__()
        self.added, self.calls = added, calls

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        old = func(*args, **kwargs)
        if func is not nnf.interpolate:
            return old
        x = args[0] if args else kwargs["input"]
        if not is_feature_map(x) or not is_2x_size(x.shape[-2:], old.shape[-2:]):
            return old
        step = len(self.calls)
        self.calls.append(f"{tuple(x.shape)} → {tuple(old.shape)}")
        if step >= len(self.added.adapter_indices):
            raise RuntimeError(_miscount_message(len(self.added.adapter_indices), self.calls))
        return self.added(step, x, old)


def _miscount_message(expected: int, calls: list[str]) -> str:
    return (
        f"The upgraded neck has additions for {expected} doublings but made {len(calls)} in this forward: {'; '.join(calls) or 'none'}. "
        "It must double as often as it did on the example it was upgraded with: downgrade it and upgrade with an example of this kind."
    )
