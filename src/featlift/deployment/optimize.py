"""Selection of the fastest inference variant (memory format, precision, fusion) of each interpolator on this machine.

>>> for choice in optimize(detector, [image]): print(choice)   # in place; parameters, their names and training are unchanged
>>> restore(detector)                                          # undoes it
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from types import CodeType
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from featlift.deployment.variants import EAGER_VARIANTS, VARIANTS
from featlift.interpolators import INTERPOLATORS
from featlift.profiling import measure_latencies

ModuleT = TypeVar("ModuleT", bound=nn.Module)
INTERPOLATOR_CLASSES = tuple(cls for cls in INTERPOLATORS.values() if isinstance(cls, type))


@dataclass(frozen=True)
class VariantTiming:
    """Latency and error of one variant on the example.

    Attributes:
        latency_ms: Median over the rounds, in ms.
        relative_error: Norm of the difference to the output of the plain module, relative to the norm of that output.
    """

    latency_ms: float
    relative_error: float


@dataclass(frozen=True)
class VariantChoice:
    """The selected variant and the timings of all variants; prints as a table.

    Attributes:
        module: The selected variant, for inference only; the original is unchanged.
        variant: Key of `featlift.deployment.variants.VARIANTS`.
        timings: Variant name → timing, including variants that are not exact enough.
        tolerance: Largest allowed relative error.
    """

    module: nn.Module
    variant: str
    timings: Mapping[str, VariantTiming]
    tolerance: float

    @property
    def speedup(self) -> float:
        """Latency of the plain module over that of the selected variant."""
        return self.timings["plain"].latency_ms / self.timings[self.variant].latency_ms

    def __str__(self) -> str:
        """One line per variant."""
        return "\n".join(self._format_line(name, timing) for name, timing in self.timings.items())

    def _format_line(self, name: str, timing: VariantTiming) -> str:
        mark = (
            "<- chosen"
            if name == self.variant
            else ""
            if timing.relative_error <= self.tolerance
            else "not exact enough"
        )
        return f"{name:<32}{timing.latency_ms:9.2f} ms  error {timing.relative_error:.0e}  {mark}".rstrip()


@torch.inference_mode()
def find_fastest_variant(
    module: nn.Module,
    example: Tensor | tuple[Tensor, ...],
    tolerance: float = 1e-4,
    variants: Sequence[str] = EAGER_VARIANTS,
    rounds: int = 5,
) -> VariantChoice:
    """Return the fastest variant of ``module`` on maps like ``example`` within the error ``tolerance``.

    The variants are timed in interleaved rounds, so that disturbances of the machine affect all of them alike.

    Args:
        module: Interpolator on the device of the deployment. It is copied.
        example: Map ``[B, C, H, W]`` of the most relevant size (the input of the finest upsampling step), on the same device; with the
            guide ``[B, C, 2H, 2W]``, a tuple of both.
        tolerance: Largest allowed relative error. 1e-4 admits the exact variants only; 1e-2 also bfloat16.
        variants: Keys of `featlift.deployment.variants.VARIANTS` to try besides "plain"; by default all that need no compiler.
        rounds: Number of timing rounds.
    """
    inputs = example if isinstance(example, tuple) else (example,)
    candidates = {name: VARIANTS[name](module) for name in dict.fromkeys(["plain", *variants])}
    reference = candidates["plain"](*inputs)
    errors = {name: _relative_error(variant(*inputs), reference) for name, variant in candidates.items()}
    calls = {name: (lambda variant=variant: variant(*inputs)) for name, variant in candidates.items()}
    latencies = measure_latencies(calls, rounds)
    timings = {name: VariantTiming(1e3 * latencies[name].median, errors[name]) for name in candidates}
    exact = [name for name in candidates if timings[name].relative_error <= tolerance]
    fastest = min(exact, key=lambda name: timings[name].latency_ms)
    return VariantChoice(candidates[fastest], fastest, timings, tolerance)


def optimize(
    model: nn.Module, example: Any, tolerance: float = 1e-4, variants: Sequence[str] = EAGER_VARIANTS, rounds: int = 5
) -> list[VariantChoice]:
    """Run each interpolator in ``model`` in its fastest variant during inference, in place; return the choices.

    Parameters, ``state_dict`` and classes are unchanged. In training mode, with gradients, and in compilers and exporters a module uses its
    own forward. After a change of its weights or device, its variant is rebuilt.

    Args:
        model: Network with FeatLift interpolators (also an upgraded one) in evaluation mode, on the device of the deployment.
        example: Input of typical size: the argument of the model (``[image]`` for a detector), or a tuple of its arguments.
        tolerance: Largest allowed relative error, see :func:`find_fastest_variant`.
        variants: Variants to try on the largest input that each interpolator gets from the example.
        rounds: Number of timing rounds.

    Raises:
        ValueError: If the model is in training mode, or runs no FeatLift interpolator.
    """
    if model.training:
        raise ValueError("A model in training mode is not optimized: call eval() on it first.")
    maps = _record_largest_maps(restore(model), example)
    if not maps:
        raise ValueError(
            f"No interpolator of FeatLift runs in this {type(model).__name__}: there is nothing to optimize."
        )
    choices = [find_fastest_variant(module, x, tolerance, variants, rounds) for module, x in maps.items()]
    for module, choice in zip(maps, choices, strict=True):
        if choice.variant != "plain":
            module.__dict__["forward"] = OptimizedForward(module, choice.variant)
    return choices


def restore(model: ModuleT) -> ModuleT:
    """Undo :func:`optimize` for every module of ``model``; return ``model``."""
    for module in model.modules():
        forward = module.__dict__.get("forward")
        if isinstance(forward, OptimizedForward):
            del module.__dict__["forward"]
            if forward.original_forward is not None:
                module.__dict__["forward"] = forward.original_forward
    return model


class OptimizedForward:
    """Replacement of a module's ``forward`` that runs a variant during inference and the original forward otherwise.

    Args:
        module: Module whose forward is replaced; its weights are unchanged.
        variant: Key of `featlift.deployment.variants.VARIANTS`.
    """

    def __init__(self, module: nn.Module, variant: str):
        self.module, self.variant = module, variant
        # `featlift.interpolators.execution` also replaces the forward of an instance.
        self.original_forward: Callable[..., Tensor] | None = module.__dict__.get("forward")
        self._optimized: nn.Module | None = None
        self._weight_versions: tuple[tuple[int, int], ...] = ()

    def __call__(self, x: Tensor, guide: Tensor | None = None) -> Tensor:
        """``[B, C, H, W]`` and, if the module needs it, a guide ``[B, C, 2H, 2W]`` → ``[B, C, 2H, 2W]``."""
        needs_gradients = self.module.training or torch.is_grad_enabled()
        if needs_gradients or torch.compiler.is_compiling() or torch.jit.is_tracing():
            original = self.original_forward or partial(type(self.module).forward, self.module)
            return original(x, guide)
        return self._optimized_module()(x, guide)

    @property
    def __code__(self) -> CodeType:
        """Code of the original forward, which exporters read."""
        return type(self.module).forward.__code__

    def _optimized_module(self) -> nn.Module:
        """Return the variant for the current weights, rebuilt if they have changed."""
        tensors = chain(self.module.parameters(), self.module.buffers())
        versions = tuple((t.data_ptr(), 0 if t.is_inference() else t._version) for t in tensors)
        if self._optimized is None or versions != self._weight_versions:
            self._optimized, self._weight_versions = VARIANTS[self.variant](self.module), versions
        return self._optimized

    def __deepcopy__(self, memo: dict[int, Any]) -> "OptimizedForward":
        """Copy with the module; the copy builds its own variant when needed."""
        copied = OptimizedForward(copy.deepcopy(self.module, memo), self.variant)
        copied.original_forward = copy.deepcopy(self.original_forward, memo)
        return copied

    def __getstate__(self) -> dict[str, Any]:
        """State without the variant, which can be rebuilt."""
        return self.__dict__ | {"_optimized": None, "_weight_versions": ()}


@torch.no_grad()
def _record_largest_maps(model: nn.Module, example: Any) -> dict[nn.Module, tuple[Tensor, ...]]:
    """Return the largest map, and its guide, that each interpolator of ``model`` gets when it runs on ``example``."""
    maps: dict[nn.Module, tuple[Tensor, ...]] = {}

    def record_input(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if module not in maps or inputs[0].numel() > maps[module][0].numel():
            maps[module] = inputs

    interpolators = [module for module in model.modules() if type(module) in INTERPOLATOR_CLASSES]
    handles = [module.register_forward_pre_hook(record_input) for module in interpolators]
    try:
        model(*(example if isinstance(example, tuple) else (example,)))
    finally:
        for handle in handles:
            handle.remove()
    return maps


def _relative_error(y: Tensor, reference: Tensor) -> float:
    return ((y - reference).norm() / reference.norm().clamp(min=1e-12)).item()
