"""The fastest form of each interpolator on this machine, found by trying: nobody has to know about layouts and precisions.

>>> for choice in hasten(detector, [picture]): print(choice)   # in place; parameters, their names and training stay as they were
>>> unhasten(detector)                                         # as if nothing had been
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from types import CodeType
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from featlift.deployment.variants import EAGER_VARIANTS, VARIANTS
from featlift.evaluation.profiling import measure_latencies
from featlift.interpolators import INTERPOLATORS

ModuleT = TypeVar("ModuleT", bound=nn.Module)
INTERPOLATOR_CLASSES = tuple(kind for kind in INTERPOLATORS.values() if isinstance(kind, type))


@dataclass(frozen=True)
class VariantTiming:
    """One form on the example.

    Attributes:
        latency_ms: median over the rounds.
        relative_error: norm of the difference over the norm of the plain answer.
    """

    latency_ms: float
    relative_error: float


@dataclass(frozen=True)
class VariantChoice:
    """The form that was chosen, and every form's trial; prints as a table.

    Attributes:
        module: in that form, for inference only; the original is left as it was.
        variant: of the form, a key of `featlift.deployment.variants.VARIANTS`.
        timings: by name; those that are not exact enough are in it too.
        tolerance: largest error that was allowed.
    """

    module: nn.Module
    variant: str
    timings: Mapping[str, VariantTiming]
    tolerance: float

    @property
    def speedup(self) -> float:
        """The plain form's time over that of the chosen one."""
        return self.timings["plain"].latency_ms / self.timings[self.variant].latency_ms

    def __str__(self) -> str:
        """A line for each form."""
        return "\n".join(self._format_line(name, trial) for name, trial in self.timings.items())

    def _format_line(self, name: str, trial: VariantTiming) -> str:
        mark = (
            "<- chosen"
            if name == self.variant
            else ""
            if trial.relative_error <= self.tolerance
            else "not exact enough"
        )
        return f"{name:<32}{trial.latency_ms:9.2f} ms  error {trial.relative_error:.0e}  {mark}".rstrip()


@torch.inference_mode()
def find_fastest_variant(
    module: nn.Module,
    example: Tensor,
    tolerance: float = 1e-4,
    variants: Sequence[str] = EAGER_VARIANTS,
    rounds: int = 5,
) -> VariantChoice:
    """The fastest form of ``module`` on maps like ``example``, among those whose answer is as it was.

    The forms are timed in turns, so that what disturbs the machine disturbs all alike.

    Args:
        module: an interpolator, on the device where it will work. It is copied.
        example: ``[B, C, H, W]`` of the size that matters most (the finest map that is doubled), on the same device.
        tolerance: largest relative error. 1e-4 leaves the exact forms; 1e-2 admits bfloat16.
        variants: names of `featlift.deployment.variants.VARIANTS` to try beside "plain"; by default all that need no compiler.
        rounds: how often each is timed.
    """
    made = {name: VARIANTS[name](module) for name in dict.fromkeys(["plain", *variants])}
    reference = made["plain"](example)
    errors = {name: _relative_error(form(example), reference) for name, form in made.items()}
    times = measure_latencies({name: (lambda form=form: form(example)) for name, form in made.items()}, rounds)
    trials = {name: VariantTiming(1e3 * times[name].median, errors[name]) for name in made}
    exact = [name for name in made if trials[name].relative_error <= tolerance]
    chosen = min(exact, key=lambda name: trials[name].latency_ms)
    return VariantChoice(made[chosen], chosen, trials, tolerance)


def optimize(
    model: nn.Module, example: Any, tolerance: float = 1e-4, variants: Sequence[str] = EAGER_VARIANTS, rounds: int = 5
) -> list[VariantChoice]:
    """Let each interpolator in ``model`` work in its fastest form where nothing learns; returns what was chosen for each.

    Parameters, ``state_dict`` and class stay what they were. In training mode, with gradients, and in compilers and exporters a module
    works as before; after its weights have changed, or moved to another device, its fast form is made anew.

    Args:
        model: any network with interpolators of ours in it, upgraded ones too, in evaluation mode, on the device where it will work.
        example: what to run it on, of the size it will see: its argument (``[picture]`` for a detector), or a tuple of its arguments.
        tolerance, forms, rounds: see :func:`find_fastest_variant`; each interpolator is tried on the largest map that it doubles in the example.

    Raises:
        ValueError: if the model is in training mode, or no interpolator of ours runs in it.
    """
    if model.training:
        raise ValueError("What learns is not hastened: call eval() on the model first.")
    maps = _record_largest_maps(restore(model), example)
    if not maps:
        raise ValueError(
            f"No interpolator of FeatLift runs in this {type(model).__name__}: nothing can be made faster."
        )
    choices = [find_fastest_variant(module, x, tolerance, variants, rounds) for module, x in maps.items()]
    for module, choice in zip(maps, choices, strict=True):
        if choice.variant != "plain":
            module.__dict__["forward"] = OptimizedForward(module, choice.variant)
    return choices


def restore(model: ModuleT) -> ModuleT:
    """Every module of ``model`` by its own forward again; returns ``model``."""
    for module in model.modules():
        fast = module.__dict__.get("forward")
        if isinstance(fast, OptimizedForward):
            del module.__dict__["forward"]
            if fast.original_forward is not None:
                module.__dict__["forward"] = fast.original_forward
    return model


class OptimizedForward:
    """Stands in the place of a module's ``forward``: a fast form of it where nothing learns, its own forward elsewhere.

    Args:
        module: whose place it is; not changed.
        variant: a key of `featlift.deployment.variants.VARIANTS`.
    """

    def __init__(self, module: nn.Module, variant: str):
        self.module, self.variant = module, variant
        self.original_forward: Callable[[Tensor], Tensor] | None = module.__dict__.get(
            "forward"
        )  # `interpolators.running` puts one there
        self._optimized: nn.Module | None = None
        self._weight_versions: tuple[tuple[int, int], ...] = ()

    def __call__(self, x: Tensor) -> Tensor:
        """``[B, C, H, W]`` → ``[B, C, 2H, 2W]``."""
        learning = self.module.training or torch.is_grad_enabled()
        if learning or torch.compiler.is_compiling() or torch.jit.is_tracing():
            return self.original_forward(x) if self.original_forward else type(self.module).forward(self.module, x)
        return self._optimized_module()(x)

    @property
    def __code__(self) -> CodeType:
        """That of the module's own forward: exporters ask for it."""
        return type(self.module).forward.__code__

    def _optimized_module(self) -> nn.Module:
        """The fast form of the weights as they are now."""
        tensors = chain(self.module.parameters(), self.module.buffers())
        now = tuple((t.data_ptr(), 0 if t.is_inference() else t._version) for t in tensors)
        if self._optimized is None or now != self._weight_versions:
            self._optimized, self._weight_versions = VARIANTS[self.variant](self.module), now
        return self._optimized

    def __deepcopy__(self, memo: dict[int, Any]) -> "OptimizedForward":
        """A copy of the module gets its own, made when it is needed."""
        copied = OptimizedForward(copy.deepcopy(self.module, memo), self.variant)
        copied.original_forward = copy.deepcopy(self.original_forward, memo)
        return copied

    def __getstate__(self) -> dict[str, Any]:
        """Saved without what can be made again."""
        return self.__dict__ | {"_made": None, "_of": ()}


@torch.no_grad()
def _record_largest_maps(model: nn.Module, example: Any) -> dict[nn.Module, Tensor]:
    """The largest map that each interpolator of ``model`` is given when it runs on ``example``."""
    maps: dict[nn.Module, Tensor] = {}

    def see(module: nn.Module, given: tuple[Tensor, ...]) -> None:
        if module not in maps or given[0].numel() > maps[module].numel():
            maps[module] = given[0]

    inner = [module for module in model.modules() if type(module) in INTERPOLATOR_CLASSES]
    handles = [module.register_forward_pre_hook(see) for module in inner]
    try:
        model(*(example if isinstance(example, tuple) else (example,)))
    finally:
        for handle in handles:
            handle.remove()
    return maps


def _relative_error(y: Tensor, reference: Tensor) -> float:
    return ((y - reference).norm() / reference.norm().clamp(min=1e-12)).item()
