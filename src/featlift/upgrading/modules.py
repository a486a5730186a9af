"""Classes of upgraded modules.

An upgraded module is the same object with a new class and an additional child ``added`` (as in ``torch.nn.utils.parametrize``). Hooks,
references, attributes set by other libraries and state-dict names are preserved; ``restore`` reverts the upgrade.
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
from featlift.upgrading.adapters import StepAdapters
from featlift.upgrading.tracing import is_2x_size, is_feature_map


class UpgradedFPN(FPN):
    """torchvision's ``FeaturePyramidNetwork`` with an adapter on each 2x upsampling step; created by :meth:`upgrade`.

    Unlike :class:`~featlift.pyramids.FPN`, it keeps the level names, and steps with another factor keep torchvision's interpolation.
    """

    added: StepAdapters

    @classmethod
    def upgrade(cls, pyramid: FeaturePyramidNetwork, added: StepAdapters) -> None:
        """Convert ``pyramid`` in place; ``added`` has an adapter or None for each step, coarse → fine."""
        swap_class(pyramid, cls)
        pyramid.added = added.train(pyramid.training)

    def restore(self) -> None:
        """Restore torchvision's class."""
        del self.added
        swap_class(self, FeaturePyramidNetwork)

    def forward(self, x: Features) -> Features:
        """Level → ``[B, C_i, H, W]``, fine → coarse → the same levels ``[B, C, H, W]`` and those of ``extra_blocks``."""
        return self.outputs_from_inner(x, self.inner_maps(x))

    def outputs_from_inner(self, x: Features, inner: list[Tensor]) -> Features:
        """Compute the output of :meth:`forward` for ``x`` from precomputed :meth:`inner_maps`."""
        smoothed, names = [smooth(m) for smooth, m in zip(self.layer_blocks, inner, strict=True)], list(x)
        if self.extra_blocks is not None:
            smoothed, names = self.extra_blocks(smoothed, list(x.values()), names)
        return dict(zip(names, smoothed, strict=True))

    def upsample(self, step: int, x: Tensor, size: tuple[int, int]) -> Tensor:
        """Resize ``x [B, C, H, W]`` to ``size`` by nearest interpolation and the adapter of this step (0 is the coarsest)."""
        return self.added(step, x, nnf.interpolate(x, size=size, mode="nearest"))


class UpgradedFixed(nn.Module):
    """A fixed interpolator of FeatLift with an adapter.

    Args:
        fixed: Original interpolator.
        added: :class:`~featlift.upgrading.adapters.ResidualAdapter` or ``GatedAdapter``.
    """

    def __init__(self, fixed: FixedInterpolator, added: nn.Module):
        super().__init__()
        self.fixed = fixed
        self.added = added

    def forward(self, x: Tensor) -> Tensor:
        """``[B, C, H, W]`` → ``[B, C, 2H, 2W]``."""
        return self.added(x, self.fixed(x))


class UpgradedUpsample(nn.Upsample):
    """``nn.Upsample`` by a factor of 2 with an adapter; created by :meth:`upgrade`."""

    added: nn.Module
    original_class: type[nn.Upsample]

    @classmethod
    def upgrade(cls, upsample: nn.Upsample, added: nn.Module) -> None:
        """Convert ``upsample`` in place; ``added`` is its adapter."""
        original_class = type(upsample)
        swap_class(upsample, cls)
        upsample.__dict__["original_class"] = original_class
        upsample.added = added.train(upsample.training)

    def restore(self) -> None:
        """Restore the original class."""
        original_class = self.original_class
        del self.added, self.original_class
        swap_class(self, original_class)

    def forward(self, input: Tensor) -> Tensor:
        """``[B, C, H, W]`` → ``[B, C, 2H, 2W]``."""
        return self.added(input, super().forward(input))


class UpgradedNeck(nn.Module):
    """Mixin for an arbitrary module class (see :func:`upgraded_neck_class`): adds an adapter to every 2x upsampling in its ``forward``.

    Intercepts only calls of ``torch.nn.functional.interpolate`` that upsample a floating-point ``[B, C, H, W]`` by 2 while this
    ``forward`` runs.
    """

    added: StepAdapters
    original_class: type[nn.Module]

    @classmethod
    def upgrade(cls, neck: nn.Module, added: StepAdapters) -> None:
        """Convert ``neck`` in place; ``added`` has an adapter for each 2x upsampling, in the order of the calls."""
        swap_class(neck, upgraded_neck_class(type(neck)))
        neck.added = added.train(neck.training)

    def restore(self) -> None:
        """Restore the original class."""
        del self.added
        swap_class(self, self.original_class)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run the original ``forward`` with an adapter on each ``[B, C, H, W]`` → ``[B, C, 2H, 2W]``; output shapes are unchanged.

        Raises:
            RuntimeError: If the number of 2x upsampling calls differs from the number of adapters.
        """
        calls: list[str] = []
        with _InterpolateInterceptor(self.added, calls):
            outputs = super().forward(*args, **kwargs)
        if len(calls) != len(self.added.adapter_indices):
            raise RuntimeError(_miscount_message(len(self.added.adapter_indices), calls))
        return outputs

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Copy and pickle by the original class, since the upgraded class is created at run time and cannot be imported."""
        return _new_instance, (self.original_class,), self.__dict__


@functools.cache
def upgraded_neck_class(original_class: type[nn.Module]) -> type[UpgradedNeck]:
    """Return the subclass of :class:`UpgradedNeck` and ``original_class``, so ``isinstance(…, original_class)`` stays true."""
    attributes = {"original_class": original_class}
    return type(f"Upgraded{original_class.__name__}", (UpgradedNeck, original_class), attributes)


def swap_class(module: Any, new_class: type[nn.Module]) -> None:
    """Change the class of ``module`` in place; its attributes stay."""
    module.__class__ = new_class


def _new_instance(original_class: type[nn.Module]) -> nn.Module:
    neck_class = upgraded_neck_class(original_class)
    return neck_class.__new__(neck_class)


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
        f"The upgraded neck has adapters for {expected} upsampling steps but made {len(calls)} in this forward: "
        f"{'; '.join(calls) or 'none'}. The number must be the same as on the example inputs of the upgrade: downgrade the model, then "
        "upgrade it with example inputs like these."
    )
