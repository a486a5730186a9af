"""List the 2x upsampling steps of a detector's pyramid, for profiling. The detector is not changed."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import log2
from typing import Any

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

from featlift.detectors.extractor import Extractor
from featlift.detectors.feature_extraction import record_calls
from featlift.upgrading import tracing
from featlift.upgrading.modules import UpgradedFPN

UpsampleFn = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class UpsamplingStep:
    """One upsampling step of a pyramid, from a level to the next finer one.

    Attributes:
        name: Levels, such as "p5→p4".
        channels: Channels C.
        in_size: (H, W) of the input map in cells.
        out_size: (H, W) of the output map in cells.
        upsample: Function of the step, a map ``[B, C, *in_size]`` and its guide ``[B, C, *out_size]`` → ``[B, C, *out_size]``.
        module: Module of the step, which steps may share; None if the pyramid calls ``F.interpolate``.
    """

    name: str
    channels: int
    in_size: tuple[int, int]
    out_size: tuple[int, int]
    upsample: UpsampleFn
    module: nn.Module | None

    def random_input(self, device: torch.device | str = "cpu") -> Tensor:
        """Return a random map ``[1, C, *in_size]`` (seed 0)."""
        return torch.randn(1, self.channels, *self.in_size, generator=torch.Generator().manual_seed(0)).to(device)

    def random_guide(self, device: torch.device | str = "cpu") -> Tensor:
        """Return a random guide ``[1, C, *out_size]`` (seed 1)."""
        return torch.randn(1, self.channels, *self.out_size, generator=torch.Generator().manual_seed(1)).to(device)


def backbone_and_pyramid(detector: nn.Module) -> tuple[nn.Module, nn.Module]:
    """Return the backbone and the pyramid of a FeatLift or torchvision detector.

    Raises:
        ValueError: If the detector has no known pyramid.
    """
    backbone: Any = getattr(detector, "backbone", None)
    if isinstance(backbone, Extractor):
        return backbone.backbone, backbone.pyramid
    if hasattr(backbone, "body") and hasattr(backbone, "fpn"):
        return backbone.body, backbone.fpn
    raise ValueError(
        f"{type(detector).__name__} has no known pyramid (its backbone is a {type(backbone).__name__}); "
        "use a FeatLift detector or one of torchvision's …_fpn detectors."
    )


@torch.no_grad()
def find_upsampling_steps(detector: nn.Module, image: Tensor) -> list[UpsamplingStep]:
    """Return the upsampling steps of ``detector`` on ``image``, in order.

    Args:
        detector: Detector in evaluation mode.
        image: ``[3, H, W]`` in 0…1.

    Raises:
        ValueError: If the detector has no known pyramid, or its pyramid upsamples no map by 2.
    """
    _, pyramid = backbone_and_pyramid(detector)
    steps = _record_interpolate_calls(detector, image, pyramid)
    if isinstance(pyramid, UpgradedFPN):
        with record_calls([pyramid.added]) as calls:
            detector([image])
        steps = [_record_adapter_step(pyramid, *inputs[:3]) for _, inputs, _ in calls]
    elif isinstance(getattr(pyramid, "interpolators", None), nn.ModuleList):
        with record_calls(pyramid.interpolators) as calls:  # type: ignore[arg-type]
            detector([image])
        steps = [(inputs[0], output.shape, module, module) for module, inputs, output in calls]
    if not steps:
        raise ValueError(f"The pyramid of this {type(detector).__name__} upsamples no map by 2.")
    height = detector.transform([image])[0].tensors.shape[-2]  # type: ignore[operator]
    return [_build_step(x, out_shape, upsample, module, height) for x, out_shape, upsample, module in steps]


RecordedStep = tuple[Tensor, Sequence[int], UpsampleFn, nn.Module | None]
"""(input map, output shape, upsampling function, module)"""


def _record_adapter_step(pyramid: UpgradedFPN, step: int, x: Tensor, old: Tensor) -> RecordedStep:
    index = pyramid.added.adapter_indices[step]
    size = (old.shape[-2], old.shape[-1])
    return (
        x,
        old.shape,
        lambda x, guide: pyramid.upsample(step, x, size, guide),
        None if index is None else pyramid.added[index],
    )


def _record_interpolate_calls(detector: nn.Module, image: Tensor, pyramid: nn.Module) -> list[RecordedStep]:
    """Return the 2x calls of ``F.interpolate`` in the ``forward`` of the pyramid itself."""
    path = next(name for name, module in detector.named_modules() if module is pyramid)
    calls = [
        c for c in tracing.trace_interpolations(detector, example_inputs=[image]).calls if c.is_2x and c.owner == path
    ]
    return [
        (
            c.like.new_empty(1, c.channels, *c.in_size),
            c.out_size,
            lambda x, _, c=c: nnf.interpolate(x, c.out_size, mode=c.mode),
            None,
        )
        for c in calls
    ]


def _build_step(
    x: Tensor, out_shape: Sequence[int], upsample: UpsampleFn, module: nn.Module | None, image_height: int
) -> UpsamplingStep:
    (rows, columns), out_size = x.shape[-2:], (out_shape[-2], out_shape[-1])
    return UpsamplingStep(
        f"{_level_name(image_height, rows)}→{_level_name(image_height, out_size[0])}",
        x.shape[1],
        (rows, columns),
        out_size,
        upsample,
        module,
    )


def _level_name(image_height: int, rows: int) -> str:
    return f"p{round(log2(image_height / rows))}"
