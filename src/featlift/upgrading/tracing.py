"""Trace the interpolations of a network in one forward pass: which module, which map, which factor.

The network is not changed: the pass runs without gradients in evaluation mode, and the mode of every module is restored.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from featlift.detectors.eval_mode import eval_mode

DEFAULT_IMAGE_SIZE = (256, 256)
"""(H, W) in pixels of the black image used if no example inputs are given."""


@dataclass(frozen=True)
class InterpolateCall:
    """One call of ``torch.nn.functional.interpolate`` on a floating-point map ``[B, C, H, W]``.

    Attributes:
        owner: Dotted name of the innermost running module.
        channels: Channels C.
        in_size: (H, W) of the input.
        out_size: (H, W) of the output.
        mode: Interpolation mode.
        like: Empty tensor with the dtype and device of the map.
    """

    owner: str
    channels: int
    in_size: tuple[int, int]
    out_size: tuple[int, int]
    mode: str
    like: Tensor

    @property
    def is_2x(self) -> bool:
        """Whether the call upsamples by 2, up to one cell for odd sizes."""
        return is_2x_size(self.in_size, self.out_size)


@dataclass
class InterpolationTrace:
    """Interpolations of one forward pass.

    Attributes:
        calls: Calls in order.
        image_size: (H, W) in pixels of the input of the first convolution.
        run_counts: Module name → number of runs.
    """

    calls: list[InterpolateCall] = field(default_factory=list)
    image_size: tuple[int, int] | None = None
    run_counts: Counter[str] = field(default_factory=Counter)

    def calls_within(self, path: str) -> list[InterpolateCall]:
        """Return the calls of one run of the module ``path`` and its submodules; all calls if ``path`` is empty."""
        calls = [call for call in self.calls if not path or f"{call.owner}.".startswith(f"{path}.")]
        return calls[: len(calls) // max(1, self.run_counts[path])]


def is_2x_size(in_size: tuple[int, int], out_size: tuple[int, int]) -> bool:
    """Return whether each side of ``out_size`` is twice that of ``in_size``, up to one cell."""
    return all(abs(out_side - 2 * in_side) <= 1 for in_side, out_side in zip(in_size, out_size, strict=True))


def is_feature_map(x: Tensor) -> bool:
    """Return whether ``x`` is a floating-point ``[B, C, H, W]``."""
    return x.dim() == 4 and x.is_floating_point()


def trace_interpolations(model: nn.Module, path: str = "", example_inputs: Any = None) -> InterpolationTrace:
    """Run a module once and record its interpolations. Exceptions of the module are propagated.

    Args:
        model: Network; recorded names are relative to it.
        path: Dotted name of the module to run; empty runs the model itself.
        example_inputs: Argument of the module, or a tuple of arguments; None is a black image ``[1, 3, 256, 256]``.
    """
    module = model.get_submodule(path)
    args = example_inputs if isinstance(example_inputs, tuple) else (example_inputs,)
    if example_inputs is None:
        args = (_black_image(module),)
    trace = InterpolationTrace()
    running: list[str] = []
    with (
        eval_mode(module),
        _track_modules(model, running, trace),
        torch.no_grad(),
        _InterpolateRecorder(trace, running),
    ):
        module(*args)
    return trace


class _InterpolateRecorder(TorchFunctionMode):
    def __init__(self, trace: InterpolationTrace, running: list[str]):
        super().__init__()
        self.trace, self.running = trace, running

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        output = func(*args, **kwargs)
        if func is nnf.interpolate:
            x = args[0] if args else kwargs["input"]
            mode = kwargs.get("mode", args[3] if len(args) > 3 else "nearest")
            if is_feature_map(x):
                in_size, out_size = tuple(x.shape[-2:]), tuple(output.shape[-2:])
                self.trace.calls.append(
                    InterpolateCall(self.running[-1], x.shape[1], in_size, out_size, mode, x.new_empty(0))
                )
        return output


@contextmanager
def _track_modules(model: nn.Module, running: list[str], trace: InterpolationTrace) -> Iterator[None]:
    """Keep ``running`` as the stack of names of the running modules."""

    def enter(name: str, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        running.append(name)
        trace.run_counts[name] += 1
        if trace.image_size is None and isinstance(module, nn.Conv2d):
            trace.image_size = (inputs[0].shape[-2], inputs[0].shape[-1])

    handles = []
    for name, module in model.named_modules():
        handles.append(module.register_forward_pre_hook(lambda m, inputs, name=name: enter(name, m, inputs)))
        handles.append(module.register_forward_hook(lambda *_: running.pop() and None, always_call=True))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _black_image(module: nn.Module) -> Tensor:
    like = next((p for p in module.parameters() if p.is_floating_point()), torch.empty(0))
    return like.new_zeros(1, 3, *DEFAULT_IMAGE_SIZE)
