"""Trace the interpolations of a network in one forward pass: who calls, on which map, by which factor, and what the result is used for.

The network is not changed: the pass runs without gradients in evaluation mode, and the mode of every module is restored.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch.nn.functional as nnf
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from featlift.upgrading.dataflow import DataflowMode, DataflowTag, iterate_tensors
from featlift.upgrading.example_run import example_arguments, run_example
from featlift.upgrading.interpolate_call import (
    CallSignature,
    bind_interpolate,
    call_signature,
    is_2x_size,
    is_feature_map,
)


@dataclass(frozen=True, eq=False)
class InterpolateCall:
    """One call of ``torch.nn.functional.interpolate`` on a floating-point map ``[B, C, H, W]``.

    Attributes:
        stack: (dotted name, number of the run) of the running modules, outermost first.
        signature: What tells the call from others in the same ``forward``.
        in_size: (H, W) of the input.
        out_size: (H, W) of the output.
        like: Empty tensor with the dtype and device of the map.
        tag: Where the input of the call comes from.
        feeds_learned: Whether the output reaches an operation with parameters.
        is_merged: Whether the output is combined with another map of its size.
    """

    stack: tuple[tuple[str, int], ...]
    signature: CallSignature
    in_size: tuple[int, int]
    out_size: tuple[int, int]
    like: Tensor
    tag: DataflowTag
    feeds_learned: bool = False
    is_merged: bool = False

    @property
    def owner(self) -> str:
        """Dotted name of the innermost running module."""
        return self.stack[-1][0]

    @property
    def channels(self) -> int:
        """Number of channels C."""
        return self.signature.channels

    @property
    def mode(self) -> str:
        """Interpolation mode."""
        return self.signature.mode

    @property
    def is_2x(self) -> bool:
        """Whether the call upsamples by 2, up to one cell for odd sizes."""
        return is_2x_size(self.in_size, self.out_size)

    def is_within(self, path: str) -> bool:
        """Return whether the module ``path`` runs; always true for the model itself, ``""``."""
        return any(name == path or not path for name, _ in self.stack)

    def __str__(self) -> str:
        """Format owner, mode, channels and sizes."""
        sizes = " → ".join(f"{height}x{width}" for height, width in (self.in_size, self.out_size))
        return f"{self.owner or 'the model itself'}: {self.mode}, {self.channels} channels, {sizes}"


@dataclass
class InterpolationTrace:
    """Interpolations of one forward pass.

    Attributes:
        calls: Calls in order.
        image_size: (H, W) in pixels of the image; None if no convolution ran.
        run_counts: Module name → number of runs.
    """

    calls: list[InterpolateCall] = field(default_factory=list)
    image_size: tuple[int, int] | None = None
    run_counts: Counter[str] = field(default_factory=Counter)


def trace_interpolations(model: nn.Module, example_inputs: Any = None) -> InterpolationTrace:
    """Run ``model`` once and record its interpolations. Exceptions of the model are propagated.

    ``example_inputs`` are those of :func:`~featlift.upgrading.example_run.example_arguments`.
    """
    arguments = example_arguments(model, example_inputs)
    inputs = list(iterate_tensors(arguments))
    trace, running = InterpolationTrace(), [("", 0)]
    flow = DataflowMode(model.parameters(), inputs)
    with _track_modules(model, running, trace, inputs), flow, _InterpolateRecorder(trace, running, flow):
        run_example(model, arguments)
    trace.calls = [
        replace(
            call,
            feeds_learned=bool(flow.marks_before_learned >> number & 1),
            is_merged=bool(flow.marks_merged >> number & 1),
        )
        for number, call in enumerate(trace.calls)
    ]
    return trace


class _InterpolateRecorder(TorchFunctionMode):
    def __init__(self, trace: InterpolationTrace, running: list[tuple[str, int]], flow: DataflowMode):
        super().__init__()
        self.trace, self.running, self.flow = trace, running, flow

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is not nnf.interpolate:
            return func(*args, **kwargs)
        arguments = bind_interpolate(args, kwargs)
        x = arguments["input"]
        tag = self.flow.tag(x)
        output = func(*args, **kwargs)
        if is_feature_map(x):
            self.flow.mark(output, len(self.trace.calls))
            sizes = tuple(x.shape[-2:]), tuple(output.shape[-2:])
            signature = call_signature(arguments)
            self.trace.calls.append(InterpolateCall(tuple(self.running), signature, *sizes, x.new_empty(0), tag))
        return output


@contextmanager
def _track_modules(
    model: nn.Module, running: list[tuple[str, int]], trace: InterpolationTrace, inputs: list[Tensor]
) -> Iterator[None]:
    """Keep ``running`` as the stack of the running submodules, with the number of the run of each."""

    def enter(name: str, module: nn.Module, inputs_of_module: tuple[Any, ...]) -> None:
        trace.run_counts[name] += 1
        if name:
            running.append((name, trace.run_counts[name]))
        if trace.image_size is None and isinstance(module, nn.Conv2d):
            trace.image_size = _image_size(inputs_of_module[0], inputs)

    def leave(name: str) -> None:
        if name:
            running.pop()

    handles = []
    for name, module in model.named_modules():
        handles.append(module.register_forward_pre_hook(lambda m, args, name=name: enter(name, m, args)))
        handles.append(module.register_forward_hook(lambda *_, name=name: leave(name), always_call=True))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _image_size(x: Tensor, inputs: list[Tensor]) -> tuple[int, int]:
    """Return the size of the image, given the input ``x`` of the first convolution, which may be a space-to-depth of the image."""
    for image in inputs:
        if image.dim() in (3, 4) and image.is_floating_point() and image.shape[-1] >= x.shape[-1]:
            factor = image.shape[-1] // x.shape[-1]
            height, width, channels = image.shape[-2] // factor, image.shape[-1] // factor, image.shape[-3] * factor**2
            if (channels, height, width) == tuple(x.shape[-3:]):
                return image.shape[-2], image.shape[-1]
    return x.shape[-2], x.shape[-1]
