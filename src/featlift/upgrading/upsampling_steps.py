"""The doublings of a detector, one by one: which map, and what is there now. To be measured; nothing is changed."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import log2
from typing import Any

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

from featlift.detectors.extractor import Extractor
from featlift.upgrading import tracing
from featlift.upgrading.modules import UpgradedFPN

Map = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Doubling:
    """One step of a pyramid from a level to the next finer one.

    Attributes:
        name: "p5→p4".
        channels: C.
        size: (H, W) of the map that is doubled, in cells,
        target: and of what comes out.
        now: what does it now, ``[B, C, *size]`` → ``[B, C, *target]``.
        module: what learns in it; None for an interpolation that is written into the pyramid. Steps may share one.
    """

    name: str
    channels: int
    size: tuple[int, int]
    target: tuple[int, int]
    now: Map
    module: nn.Module | None

    def noise(self, device: torch.device | str = "cpu") -> Tensor:
        """A random map ``[1, C, *size]``."""
        return torch.randn(1, self.channels, *self.size, generator=torch.Generator().manual_seed(0)).to(device)


def trunk(detector: nn.Module) -> tuple[nn.Module, nn.Module]:
    """Backbone and pyramid of a detector, ours or torchvision's.

    Raises:
        ValueError: if it has no pyramid.
    """
    below: Any = getattr(detector, "backbone", None)
    if isinstance(below, Extractor):
        return below.backbone, below.pyramid
    if hasattr(below, "body") and hasattr(below, "fpn"):
        return below.body, below.fpn
    raise ValueError(
        f"{type(detector).__name__} has no pyramid that is known here (its backbone is a {type(below).__name__}); "
        "detectors of FeatLift and torchvision's …_fpn have one."
    )


@torch.no_grad()
def doublings(detector: nn.Module, picture: Tensor) -> list[Doubling]:
    """The doublings that ``detector``, in evaluation mode, makes when it looks at ``picture`` ``[3, H, W]``, in their order.

    Raises:
        ValueError: if it has no pyramid, or one that doubles nothing.
    """
    _, pyramid = trunk(detector)
    steps = _written(detector, picture, pyramid)
    if isinstance(pyramid, UpgradedFPN):
        steps = [_upgraded(pyramid, *given) for _, given, _ in watched(detector, picture, [pyramid.added])]
    elif isinstance(getattr(pyramid, "interpolators", None), nn.ModuleList):
        seen = watched(detector, picture, list(pyramid.interpolators))  # type: ignore[arg-type]
        steps = [(given[0], y.shape, module, module) for module, given, y in seen]
    if not steps:
        raise ValueError(f"{type(detector).__name__} doubles no map of its pyramid; there is nothing to measure.")
    height = detector.transform([picture])[0].tensors.shape[-2]  # type: ignore[operator]
    return [_doubling(x, target, now, module, height) for x, target, now, module in steps]


def watched(
    detector: nn.Module, picture: Tensor, modules: Sequence[nn.Module]
) -> list[tuple[nn.Module, tuple[Any, ...], Tensor]]:
    """Each call of one of ``modules`` while ``detector`` looks at ``picture``: the module, what it was given, what it gave."""
    seen: list[tuple[nn.Module, tuple[Any, ...], Tensor]] = []

    def see(module: nn.Module, given: tuple[Any, ...], y: Tensor) -> None:
        seen.append((module, given, y))

    handles = [module.register_forward_hook(see) for module in modules]
    try:
        detector([picture])
    finally:
        for handle in handles:
            handle.remove()
    return seen


Seen = tuple[Tensor, Sequence[int], Map, nn.Module | None]
"""A map, the shape of what comes out, what does it, and what learns in it."""


def _upgraded(pyramid: UpgradedFPN, step: int, x: Tensor, old: Tensor) -> Seen:
    which = pyramid.added.which[step]
    size = (old.shape[-2], old.shape[-1])
    return x, old.shape, lambda x: pyramid.enlarge(step, x, size), None if which is None else pyramid.added[which]


def _written(detector: nn.Module, picture: Tensor, pyramid: nn.Module) -> list[Seen]:
    """Calls of ``F.interpolate`` in the pyramid's own ``forward``."""
    path = next(name for name, module in detector.named_modules() if module is pyramid)
    calls = [c for c in tracing.run(detector, example=[picture]).calls if c.doubles and c.owner == path]
    return [
        (
            c.like.new_empty(1, c.channels, *c.size),
            c.target,
            lambda x, c=c: nnf.interpolate(x, c.target, mode=c.mode),
            None,
        )
        for c in calls
    ]


def _doubling(x: Tensor, target: Sequence[int], now: Map, module: nn.Module | None, height: int) -> Doubling:
    (rows, columns), out = x.shape[-2:], (target[-2], target[-1])
    return Doubling(f"{_level(height, rows)}→{_level(height, out[0])}", x.shape[1], (rows, columns), out, now, module)


def _level(height: int, rows: int) -> str:
    return f"p{round(log2(height / rows))}"
