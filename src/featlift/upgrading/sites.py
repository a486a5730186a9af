"""Upgrade sites: modules of a network that upsample by 2."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from featlift.upgrading.tracing import InterpolateCall


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
        finder: Strategy that found it (:data:`~featlift.upgrading.finders.FINDERS`).
        steps: Interpolations of one forward pass, in order.
        like: Tensor with the dtype and device for new parameters.
        install: Installs one adapter, or None, per step.
    """

    path: str
    finder: str
    steps: tuple[SiteStep, ...]
    like: Tensor
    install: Callable[[list[nn.Module | None]], None]


@dataclass(frozen=True)
class FinderResult:
    """Sites, (H, W) in pixels of the traced image if known, and descriptions of the interpolations that are left as they are."""

    sites: tuple[UpgradeSite, ...] = ()
    image_size: tuple[int, int] | None = None
    skipped: tuple[str, ...] = ()


def common_parent(paths: list[str]) -> str:
    """Return the dotted name of the nearest module that contains all modules ``paths``; empty for the model itself."""
    names = [path.split(".") for path in paths]
    common = []
    for parts in zip(*names, strict=False):
        if len(set(parts)) > 1:
            break
        common.append(parts[0])
    return ".".join(common)
