"""Looking at a network while it runs once: who interpolates, what, and by how much.

Nothing is changed by it: no gradient, evaluation mode for the while, and every module's mode put back.
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

DEFAULT_IMAGE_SIZE = (256, 256)
"""Height and width, px, of the black picture that a network is run on if no example is given."""


@dataclass(frozen=True)
class InterpolateCall:
    """One call of ``torch.nn.functional.interpolate`` on a floating-point map ``[B, C, H, W]``."""

    owner: str
    """Dotted name of the innermost module that was running."""
    channels: int
    in_size: tuple[int, int]
    """(H, W) before,"""
    out_size: tuple[int, int]
    """and after."""
    mode: str
    like: Tensor
    """An empty tensor with the map's type and device."""

    @property
    def is_2x(self) -> bool:
        """Whether it doubles the map, give or take the one cell that odd sizes cost."""
        return is_2x_size(self.in_size, self.out_size)


@dataclass
class InterpolationTrace:
    """What a run showed."""

    calls: list[InterpolateCall] = field(default_factory=list)
    """In their order."""
    image_size: tuple[int, int] | None = None
    """(H, W) of what the first convolution saw, px."""
    run_counts: Counter[str] = field(default_factory=Counter)
    """How often each module ran, by its name."""

    def calls_within(self, path: str) -> list[InterpolateCall]:
        """The calls made by the module called ``path``, or by its parts, in one of its runs. All calls if ``path`` is empty."""
        own = [call for call in self.calls if not path or f"{call.owner}.".startswith(f"{path}.")]
        return own[: len(own) // max(1, self.run_counts[path])]


def is_2x_size(in_size: tuple[int, int], out_size: tuple[int, int]) -> bool:
    """Whether each side of ``out_size`` is twice that of ``in_size``, give or take one cell."""
    return all(abs(after - 2 * before) <= 1 for before, after in zip(in_size, out_size, strict=True))


def is_feature_map(x: Tensor) -> bool:
    """Whether ``x`` is a floating-point ``[B, C, H, W]``."""
    return x.dim() == 4 and x.is_floating_point()


def trace_interpolations(model: nn.Module, path: str = "", example_inputs: Any = None) -> InterpolationTrace:
    """Run the module called ``path`` (the model itself if empty) once and say what was interpolated in it.

    Args:
        model: names in the answer are those of its modules.
        path: dotted name of the module to run.
        example_inputs: its argument, or a tuple of its arguments; None is a black picture ``[1, 3, 256, 256]``.

    Raises:
        Whatever the module raises on the example.
    """
    subject = model.get_submodule(path)
    arguments = (
        example_inputs
        if isinstance(example_inputs, tuple)
        else (_black_image(subject) if example_inputs is None else example_inputs,)
    )
    seen = InterpolationTrace()
    running: list[str] = []
    with (
        _eval_mode(subject),
        _track_modules(model, running, seen),
        torch.no_grad(),
        _InterpolateRecorder(seen, running),
    ):
        subject(*arguments)
    return seen


class _InterpolateRecorder(TorchFunctionMode):
    def __init__(self, trace: InterpolationTrace, running: list[str]):
        super().__init__()
        self.trace, self.running = trace, running

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        answer = func(*args, **kwargs)
        if func is nnf.interpolate:
            x = args[0] if args else kwargs["input"]
            mode = kwargs.get("mode", args[3] if len(args) > 3 else "nearest")
            if is_feature_map(x):
                size, target = tuple(x.shape[-2:]), tuple(answer.shape[-2:])
                self.trace.calls.append(
                    InterpolateCall(self.running[-1], x.shape[1], size, target, mode, x.new_empty(0))
                )
        return answer


@contextmanager
def _track_modules(model: nn.Module, running: list[str], trace: InterpolationTrace) -> Iterator[None]:
    """``running`` is the stack of names of the modules at work."""

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


@contextmanager
def _eval_mode(module: nn.Module) -> Iterator[None]:
    """Evaluation mode; afterwards every part has the mode it had."""
    modes = {part: part.training for part in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for part, training in modes.items():
            part.training = training


def _black_image(module: nn.Module) -> Tensor:
    like = next((p for p in module.parameters() if p.is_floating_point()), torch.empty(0))
    return like.new_zeros(1, 3, *DEFAULT_IMAGE_SIZE)
