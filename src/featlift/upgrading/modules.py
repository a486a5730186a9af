"""Classes of upgraded modules.

An upgraded module is the same object with a new class and an additional child ``added`` (as in ``torch.nn.utils.parametrize``). Hooks,
references, attributes set by other libraries and state-dict names are preserved; ``restore`` reverts the upgrade.
"""

import functools
from typing import Any

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torchvision.ops.feature_pyramid_network import FeaturePyramidNetwork

from featlift.features import Features
from featlift.interpolators.fixed import FixedInterpolator
from featlift.pyramids import FPN
from featlift.upgrading.adapters import CallAdapters, StepAdapters
from featlift.upgrading.interpolate_call import (
    CallSignature,
    bind_interpolate,
    call_signature,
    is_2x_size,
    is_feature_map,
)


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

    def upsample(self, step: int, x: Tensor, size: tuple[int, int], guide: Tensor | None = None) -> Tensor:
        """Resize ``x [B, C, H, W]`` to ``size`` by nearest interpolation and the adapter of this step (0 is the coarsest)."""
        return self.added(step, x, nnf.interpolate(x, size=size, mode="nearest"), guide)


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

    def forward(self, x: Tensor, guide: Tensor | None = None) -> Tensor:
        """``[B, C, H, W]`` and a guide ``[B, C, 2H, 2W]`` → ``[B, C, 2H, 2W]``."""
        return self.added(x, self.fixed(x), guide)


class UpgradedUpsample(nn.Upsample):
    """``nn.Upsample`` with an adapter where it upsamples by 2; created by :meth:`upgrade`."""

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
        old = super().forward(input)
        return self.added(input, old) if is_2x_size(input.shape[-2:], old.shape[-2:]) else old


class UpgradedNeck(nn.Module):
    """Mixin for an arbitrary module class (see :func:`upgraded_neck_class`): adds adapters to calls of ``interpolate`` in its ``forward``.

    Only the calls that the adapters are for are changed (:mod:`featlift.upgrading.interpolate_call`), and only while this ``forward`` runs.
    """

    added: CallAdapters
    original_class: type[nn.Module]

    @classmethod
    def upgrade(cls, neck: nn.Module, added: CallAdapters) -> None:
        """Convert ``neck`` in place; ``added`` has an adapter for each call to change.

        Raises:
            ValueError: If ``forward`` was replaced on the object itself, so that its class has no effect.
        """
        _remove_own_forward(neck)
        swap_class(neck, upgraded_neck_class(type(neck)))
        neck.added = added.train(neck.training)

    def restore(self) -> None:
        """Restore the original class."""
        del self.added
        swap_class(self, self.original_class)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run the original ``forward``, with adapters on calls ``[B, C, H, W]`` → ``[B, C, 2H, 2W]``; output shapes are unchanged."""
        with _InterpolateInterceptor(self.added):
            return super().forward(*args, **kwargs)

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Copy and pickle by the original class, since the upgraded class is created at run time and cannot be imported."""
        return _new_instance, (self.original_class,), self.__dict__


@functools.cache
def upgraded_neck_class(original_class: type[nn.Module]) -> type[UpgradedNeck]:
    """Return the subclass of :class:`UpgradedNeck` and ``original_class``, so ``isinstance(…, original_class)`` stays true.

    Its ``forward`` has the signature of the original, which trainers inspect.
    """

    @functools.wraps(original_class.forward)
    def forward_like_original(self: UpgradedNeck, *args: Any, **kwargs: Any) -> Any:
        return UpgradedNeck.forward(self, *args, **kwargs)

    attributes = {
        "original_class": original_class,
        "forward": forward_like_original,
        "__module__": original_class.__module__,
    }
    return type(f"Upgraded{original_class.__name__}", (UpgradedNeck, original_class), attributes)


def swap_class(module: Any, new_class: type[nn.Module]) -> None:
    """Change the class of ``module`` in place; its attributes stay."""
    module.__class__ = new_class


def restore_site(module: nn.Module) -> None:
    """Restore an upgraded module: one of the classes above, or a FeatLift pyramid with :class:`UpgradedFixed` interpolators."""
    if isinstance(module, (UpgradedFPN, UpgradedUpsample, UpgradedNeck)):
        module.restore()
    else:
        module.interpolators = nn.ModuleList(dict.fromkeys(i.fixed for i in module.interpolators))  # type: ignore[union-attr]


def _new_instance(original_class: type[nn.Module]) -> nn.Module:
    neck_class = upgraded_neck_class(original_class)
    return neck_class.__new__(neck_class)


def _remove_own_forward(module: nn.Module) -> None:
    """Delete an attribute ``forward`` that is the method of the class anyway, as Hugging Face's output recording leaves it."""
    own = vars(module).get("forward")
    if own is None:
        return
    if getattr(own, "__func__", None) is not type(module).forward:
        raise ValueError(
            f"The forward of this {type(module).__name__} was replaced on the object itself, so its interpolations cannot be changed: "
            "upgrade the model before it is wrapped or fused."
        )
    del module.forward


CHECKPOINTED_FUNCTION = (
    "An upgraded forward interpolates without gradients in a part of it, as in checkpoint(self.method, x, use_reentrant=True): its "
    "adapters would not be trained. Checkpoint whole modules, checkpoint(self.block, x), or the upgraded module itself."
)


class _InterpolateInterceptor(TorchFunctionMode):
    def __init__(self, added: CallAdapters):
        super().__init__()
        self.added = added
        self.counts: dict[CallSignature, int] = {}
        self.has_gradients = torch.is_grad_enabled()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        old = func(*args, **kwargs)
        if func is not nnf.interpolate:
            return old
        arguments = bind_interpolate(args, kwargs)
        x = arguments["input"]
        if not is_feature_map(x):
            return old
        if self.has_gradients and not torch.is_grad_enabled():
            raise RuntimeError(CHECKPOINTED_FUNCTION)
        signature = call_signature(arguments)
        number = self.counts.get(signature, 0)
        self.counts[signature] = number + 1
        return self.added((signature, number), x, old)
