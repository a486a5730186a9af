"""Upgrade sites: modules of a network that upsample by 2, and the scope in which finders search for them."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from featlift.upgrading.tracing import InterpolateCall, InterpolationTrace, trace_interpolations


@dataclass(frozen=True)
class SiteStep:
    """One interpolation of a site: its channels, its mode and, if traced, its call."""

    channels: int
    mode: str
    call: InterpolateCall | None = None

    @property
    def is_2x(self) -> bool:
        """Whether the step upsamples by 2; assumed for untraced steps (another factor then raises an error in the forward pass)."""
        return self.call is None or self.call.is_2x


@dataclass(frozen=True)
class UpgradeSite:
    """A module that can be upgraded.

    Attributes:
        path: Dotted name of the module.
        steps: Interpolations of one forward pass, in order.
        like: Tensor with the dtype and device for new parameters.
        install: Installs one adapter, or None, per step.
    """

    path: str
    steps: tuple[SiteStep, ...]
    like: Tensor
    install: Callable[[list[nn.Module | None]], None]


@dataclass(frozen=True)
class FinderResult:
    """Result of a finder: sites, (H, W) of the traced image if known, skipped interpolations, and the reason if there are no sites."""

    sites: tuple[UpgradeSite, ...] = ()
    image_size: tuple[int, int] | None = None
    skipped: tuple[str, ...] = ()
    reason: str = ""


@dataclass
class SearchScope:
    """Network to upgrade, dotted name of the submodule to search (empty: the whole model), and example inputs (None: a black image)."""

    model: nn.Module
    neck: str = ""
    example_inputs: Any = None
    _trace: InterpolationTrace | None = field(default=None, init=False, repr=False)

    def modules_of_type(self, module_type: type) -> list[tuple[str, nn.Module]]:
        """Return the modules of this type in the neck, with their names in the model."""
        modules = self.model.get_submodule(self.neck).named_modules(prefix=self.neck)
        return [(path, module) for path, module in modules if isinstance(module, module_type)]

    def trace(self) -> InterpolationTrace:
        """Trace the interpolations of the whole model on the example inputs; runs once. Raises ValueError if the model fails."""
        if self._trace is None:
            try:
                self._trace = trace_interpolations(self.model, example_inputs=self.example_inputs)
            except Exception as error:  # an arbitrary network may raise anything
                inputs = "a black image [1, 3, 256, 256]" if self.example_inputs is None else "example_inputs"
                raise ValueError(
                    f"{type(self.model).__name__} failed on {inputs} while its interpolations were traced "
                    f"({type(error).__name__}: {error}). Pass valid inputs as example_inputs=… (a tuple for several)."
                ) from error
        return self._trace

    def trace_around(self, path: str) -> InterpolationTrace | None:
        """Trace the parent module of ``path`` on a black image; None if it fails. With example inputs, trace the whole model."""
        if self.example_inputs is not None:
            return self.trace()
        try:
            return trace_interpolations(self.model, path.rpartition(".")[0])
        except Exception:  # an arbitrary network may raise anything; the trace is needed for the report only
            return None
