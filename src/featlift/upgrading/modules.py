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
from featlift.interpolators.fixed import Fixed
from featlift.pyramids import FPN
from featlift.upgrading.residual import Steps
from featlift.upgrading.tracing import doubles, is_map


class UpgradedFPN(FPN):
    """torchvision's ``FeaturePyramidNetwork`` with an addition to each of its doublings. Made by :meth:`upgrade`.

    Unlike our own FPN it keeps the names of the levels, and a step that does not double is left to torchvision's interpolation.
    """

    added: Steps

    @classmethod
    def upgrade(cls, pyramid: FeaturePyramidNetwork, added: Steps) -> None:
        """Turn ``pyramid`` into one of these; ``added`` has an addition for each step, coarse → fine."""
        turn(pyramid, cls)
        pyramid.added = added.train(pyramid.training)

    def restore(self) -> None:
        """Make it torchvision's again."""
        del self.added
        turn(self, FeaturePyramidNetwork)

    def forward(self, x: Features) -> Features:
        """Maps ``[B, C_i, H, W]``, fine → coarse, by any names → maps ``[B, C, H, W]`` of these names, and what ``extra_blocks`` adds."""
        return self.outputs(x, self.inner_maps(x))

    def outputs(self, x: Features, inner: list[Tensor]) -> Features:
        """What :meth:`forward` gives for ``x``, from the :meth:`inner_maps` that are already there."""
        smoothed, names = [smooth(m) for smooth, m in zip(self.layer_blocks, inner, strict=True)], list(x)
        if self.extra_blocks is not None:
            smoothed, names = self.extra_blocks(smoothed, list(x.values()), names)
        return dict(zip(names, smoothed, strict=True))

    def enlarge(self, step: int, x: Tensor, size: tuple[int, int]) -> Tensor:
        """``x [B, C, H, W]`` at ``size``: torchvision's nearest interpolation and the addition of this step (0 is the coarsest)."""
        return self.added(step, x, nnf.interpolate(x, size=size, mode="nearest"))


class UpgradedFixed(nn.Module):
    """One of our fixed interpolators and an addition to it; itself an interpolator.

    Args:
        fixed: the interpolation that was there.
        added: a :class:`~featlift.upgrading.residual.Residual` or ``Blend``.
    """

    def __init__(self, fixed: Fixed, added: nn.Module):
        super().__init__()
        self.fixed = fixed
        self.added = added

    def forward(self, x: Tensor) -> Tensor:
        """``[B, C, H, W]`` → ``[B, C, 2H, 2W]``."""
        return self.added(x, self.fixed(x))


class UpgradedUpsample(nn.Upsample):
    """``nn.Upsample`` to twice the size, with an addition. Made by :meth:`upgrade`."""

    added: nn.Module
    plain: type[nn.Upsample]

    @classmethod
    def upgrade(cls, upsample: nn.Upsample, added: nn.Module) -> None:
        """Turn ``upsample`` into one of these."""
        plain = type(upsample)
        turn(upsample, cls)
        upsample.__dict__["plain"] = plain
        upsample.added = added.train(upsample.training)

    def restore(self) -> None:
        """Make it what it was."""
        plain = self.plain
        del self.added, self.plain
        turn(self, plain)

    def forward(self, input: Tensor) -> Tensor:
        """``[B, C, H, W]`` → ``[B, C, 2H, 2W]``."""
        return self.added(input, super().forward(input))


class Redirected(nn.Module):
    """Put before a foreign class (see :func:`redirected`): every doubling in its ``forward`` gets an addition.

    Only calls of ``torch.nn.functional.interpolate`` that double a floating-point ``[B, C, H, W]`` count, and only while this
    ``forward`` runs.
    """

    added: Steps
    plain: type[nn.Module]

    @classmethod
    def upgrade(cls, neck: nn.Module, added: Steps) -> None:
        """Turn ``neck`` into a redirected version of its class; ``added`` has an addition for each doubling, in the order of the calls."""
        turn(neck, redirected(type(neck)))
        neck.added = added.train(neck.training)

    def restore(self) -> None:
        """Make it what it was."""
        del self.added
        turn(self, self.plain)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the foreign ``forward`` takes and gives, shapes unchanged; inside, each ``[B, C, H, W]`` → ``[B, C, 2H, 2W]`` is added to.

        Raises:
            RuntimeError: if it doubled more or fewer maps than there are additions.
        """
        sites: list[str] = []
        with _Redirection(self.added, sites):
            answer = super().forward(*args, **kwargs)
        if len(sites) != len(self.added.which):
            raise RuntimeError(_miscount(len(self.added.which), sites))
        return answer

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Copied and pickled by the foreign class: ours is made on the fly and has no name to be found by."""
        return _empty, (self.plain,), self.__dict__


@functools.cache
def redirected(plain: type[nn.Module]) -> type[Redirected]:
    """The class ``plain`` behind :class:`Redirected`; ``isinstance(…, plain)`` stays true."""
    return type(f"Upgraded{plain.__name__}", (Redirected, plain), {"plain": plain})


def turn(module: Any, kind: type[nn.Module]) -> None:
    """Make ``module`` an instance of ``kind``; nothing else about it changes."""
    module.__class__ = kind


def _empty(plain: type[nn.Module]) -> nn.Module:
    kind = redirected(plain)
    return kind.__new__(kind)


class _Redirection(TorchFunctionMode):
    def __init__(self, added: Steps, sites: list[str]):
        super().__init__()
        self.added, self.sites = added, sites

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        old = func(*args, **kwargs)
        if func is not nnf.interpolate:
            return old
        x = args[0] if args else kwargs["input"]
        if not is_map(x) or not doubles(x.shape[-2:], old.shape[-2:]):
            return old
        step = len(self.sites)
        self.sites.append(f"{tuple(x.shape)} → {tuple(old.shape)}")
        if step >= len(self.added.which):
            raise RuntimeError(_miscount(len(self.added.which), self.sites))
        return self.added(step, x, old)


def _miscount(expected: int, sites: list[str]) -> str:
    return (
        f"The upgraded neck has additions for {expected} doublings but made {len(sites)} in this forward: {'; '.join(sites) or 'none'}. "
        "It must double as often as it did on the example it was upgraded with: downgrade it and upgrade with an example of this kind."
    )
