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

UpsampleFn = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class UpsamplingStep:
    """One step of a pyramid from a level to the next finer one.

    Attributes:
        name: "p5→p4".
        channels: C.
        in_size: (H, W) of the map that is doubled, in cells,
        out_size: and of what comes out.
        upsample: what does it now, ``[B, C, *size]`` → ``[B, C, *target]``.
        module: what learns in it; None for an interpolation that is written into the pyramid. Steps may share one.
    """

    name: str
    channels: int
    in_size: tuple[int, int]
    out_size: tuple[int, int]
    upsample: UpsampleFn
    module: nn.Module | None

    def random_input(self, device: torch.device | str = "cpu") -> Tensor:
        """A random map ``[1, C, *size]``."""
        return torch.randn(1, self.channels, *self.in_size, generator=torch.Generator().manual_seed(0)).to(device)


def backbone_and_pyramid(detector: nn.Module) -> tuple[nn.Module, nn.Module]:
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
def find_upsampling_steps(detector: nn.Module, image: Tensor) -> list[UpsamplingStep]:
    """The doublings that ``detector``, in evaluation mode, makes when it looks at ``image`` ``[3, H, W]``, in their order.

    Raises:
        ValueError: if it has no pyramid, or one that doubles nothing.
    """
    _, pyramid = backbone_and_pyramid(detector)
    steps = _record_interpolate_calls(detector, image, pyramid)
    if isinstance(pyramid, UpgradedFPN):
        steps = [
            _record_adapter_step(pyramid, *given) for _, given, _ in record_calls(detector, image, [pyramid.added])
        ]
    elif isinstance(getattr(pyramid, "interpolators", None), nn.ModuleList):
        seen = record_calls(detector, image, list(pyramid.interpolators))  # type: ignore[arg-type]
        steps = [(given[0], y.shape, module, module) for module, given, y in seen]
    if not steps:
        raise ValueError(f"{type(detector).__name__} doubles no map of its pyramid; there is nothing to measure.")
    height = detector.transform([image])[0].tensors.shape[-2]  # type: ignore[operator]
    return [_build_step(x, target, now, module, height) for x, target, now, module in steps]


def record_calls(
    detector: nn.Module, image: Tensor, modules: Sequence[nn.Module]
) -> list[tuple[nn.Module, tuple[Any, ...], Tensor]]:
    """Each call of one of ``modules`` while ``detector`` looks at ``image``: the module, what it was given, what it gave."""
    seen: list[tuple[nn.Module, tuple[Any, ...], Tensor]] = []

    def see(module: nn.Module, given: tuple[Any, ...], y: Tensor) -> None:
        seen.append((module, given, y))

    handles = [module.register_forward_hook(see) for module in modules]
    try:
        detector([image])
    finally:
        for handle in handles:
            handle.remove()
    return seen


RecordedStep = tuple[Tensor, Sequence[int], UpsampleFn, nn.Module | None]
"""A map, the shape of what comes out, what does it, and what learns in it."""


def _record_adapter_step(pyramid: UpgradedFPN, step: int, x: Tensor, old: Tensor) -> RecordedStep:
    which = pyramid.added.adapter_indices[step]
    size = (old.shape[-2], old.shape[-1])
    return x, old.shape, lambda x: pyramid.upsample(step, x, size), None if which is None else pyramid.added[which]


def _record_interpolate_calls(detector: nn.Module, image: Tensor, pyramid: nn.Module) -> list[RecordedStep]:
    """Calls of ``F.interpolate`` in the pyramid's own ``forward``."""
    path = next(name for name, module in detector.named_modules() if module is pyramid)
    calls = [
        c for c in tracing.trace_interpolations(detector, example_inputs=[image]).calls if c.is_2x and c.owner == path
    ]
    return [
        (
            c.like.new_empty(1, c.channels, *c.in_size),
            c.out_size,
            lambda x, c=c: nnf.interpolate(x, c.out_size, mode=c.mode),
            None,
        )
        for c in calls
    ]


def _build_step(
    x: Tensor, out_shape: Sequence[int], upsample: UpsampleFn, module: nn.Module | None, image_height: int
) -> UpsamplingStep:
    (rows, columns), out = x.shape[-2:], (out_shape[-2], out_shape[-1])
    return UpsamplingStep(
        f"{_level_name(image_height, rows)}→{_level_name(image_height, out[0])}",
        x.shape[1],
        (rows, columns),
        out,
        upsample,
        module,
    )


def _level_name(image_height: int, rows: int) -> str:
    return f"p{round(log2(image_height / rows))}"
