"""Where a doubling can be found in somebody else's network, and how each kind of place is upgraded.

A door is a function: network, part to look in, example → the sites behind it. Doors are tried in the order of :data:`FINDERS`.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn
from torchvision.ops.feature_pyramid_network import FeaturePyramidNetwork

from featlift.interpolators import INTERPOLATORS
from featlift.interpolators.fixed import FixedInterpolator
from featlift.upgrading.modules import UpgradedFixed, UpgradedFPN, UpgradedNeck, UpgradedUpsample
from featlift.upgrading.residual import StepAdapters
from featlift.upgrading.tracing import InterpolateCall, InterpolationTrace, trace_interpolations


@dataclass(frozen=True)
class SiteStep:
    """One interpolation of a site: its channels and, where a run showed it, its call. ``is_2x`` is false if it is to be left alone."""

    channels: int
    mode: str
    call: InterpolateCall | None = None

    @property
    def is_2x(self) -> bool:
        """True also if nobody has seen it run: then an example that does not double ends in an error."""
        return self.call is None or self.call.is_2x


@dataclass(frozen=True)
class UpgradeSite:
    """A module that can be upgraded, and the steps it takes in one forward."""

    path: str
    steps: tuple[SiteStep, ...]
    like: Tensor
    """A tensor with the type and device that its new parameters are to have."""
    install: Callable[[list[nn.Module | None]], None]
    """Takes an addition, or None, for each step."""


@dataclass(frozen=True)
class FinderResult:
    """What a door showed: sites, the picture's (H, W) if it is known, what was left alone, and why nothing was found."""

    sites: tuple[UpgradeSite, ...] = ()
    image_size: tuple[int, int] | None = None
    skipped: tuple[str, ...] = ()
    reason: str = ""


@dataclass
class SearchScope:
    """The network to be upgraded, the part of it to look in (dotted name; empty is all of it), and an example to run it on."""

    model: nn.Module
    neck: str = ""
    example_inputs: Any = None
    _trace: InterpolationTrace | None = field(default=None, init=False, repr=False)

    def modules_of_type(self, module_type: type) -> list[tuple[str, nn.Module]]:
        """The modules of this kind in the part, with their names in the model."""
        found = self.model.get_submodule(self.neck).named_modules(prefix=self.neck)
        return [(path, module) for path, module in found if isinstance(module, module_type)]

    def trace(self) -> InterpolationTrace:
        """What the whole model interpolates on the example; run once. Raises ValueError if it cannot be run."""
        if self._trace is None:
            try:
                self._trace = trace_interpolations(self.model, example_inputs=self.example_inputs)
            except Exception as error:  # a foreign network may raise anything
                what = "a black picture [1, 3, 256, 256]" if self.example_inputs is None else "the example"
                raise ValueError(
                    f"{type(self.model).__name__} could not be run on {what} to see which maps it doubles "
                    f"({type(error).__name__}: {error}). Give what it takes as example=… (a tuple for several arguments)."
                ) from error
        return self._trace

    def trace_around(self, path: str) -> InterpolationTrace | None:
        """What the module around ``path`` interpolates on a black picture, if it takes one; with an example, :meth:`describe_files`."""
        if self.example_inputs is not None:
            return self.trace()
        try:
            return trace_interpolations(self.model, path.rpartition(".")[0])
        except Exception:  # a foreign network may raise anything, and only the table needs what would be seen
            return None


def find_torchvision_fpns(scope: SearchScope) -> FinderResult:
    """``FeaturePyramidNetwork``, not its subclasses (their ``forward`` may be another). Runs only what is around it, on a black picture."""
    found = [(p, m) for p, m in scope.modules_of_type(FeaturePyramidNetwork) if type(m) is FeaturePyramidNetwork]
    return _collect_pyramid_sites(scope, found, _torchvision_site, "no torchvision FeaturePyramidNetwork")


def find_featlift_pyramids(scope: SearchScope) -> FinderResult:
    """Pyramids of FeatLift whose interpolators are fixed.

    Raises:
        ValueError: if all there are have learned ones.
    """
    found: list[tuple[str, Any]] = [
        (path, module) for path, module in scope.modules_of_type(nn.Module) if _is_featlift_pyramid(module)
    ]
    fixed = [
        (path, pyramid)
        for path, pyramid in found
        if all(isinstance(i, FixedInterpolator) for i in pyramid.interpolators)
    ]
    if found and not fixed:
        path, pyramid = found[0]
        kinds = sorted({type(i).__name__ for i in pyramid.interpolators})
        raise ValueError(
            f"The pyramid '{path}' already has learned interpolators: {', '.join(kinds)}. There is nothing to upgrade."
        )
    return _collect_pyramid_sites(scope, fixed, _featlift_site, "no pyramid of FeatLift")


def find_upsample_modules(scope: SearchScope) -> FinderResult:
    """``nn.Upsample(scale_factor=2)``, as the necks of YOLO have it."""
    every: list[tuple[str, Any]] = scope.modules_of_type(nn.Upsample)
    twice = [(path, module) for path, module in every if _is_2x_upsample(module)]
    if not twice:
        return FinderResult(reason=f"{len(every)} nn.Upsample, none with scale_factor=2" if every else "no nn.Upsample")
    seen = scope.trace()
    sites, unused = (
        [],
        [f"{path}: nn.Upsample that is not twice" for path, module in every if not _is_2x_upsample(module)],
    )
    for path, module in twice:
        calls = seen.calls_within(path)
        if not calls:
            unused.append(f"{path}: nn.Upsample, not used on the example")
            continue
        sites.append(_upsample_site(path, module, calls[0]))
    return FinderResult(tuple(sites), seen.image_size, tuple(unused), "" if sites else "; ".join(unused))


def find_interpolate_calls(scope: SearchScope) -> FinderResult:
    """Calls of ``torch.nn.functional.interpolate`` in the ``forward`` of one module, the neck.

    Raises:
        ValueError: if no part was named and the doublings are made by several modules.
    """
    seen = scope.trace()
    doubling = [call for call in seen.calls_within(scope.neck) if call.is_2x]
    owners = Counter(call.owner for call in doubling)
    others = tuple(_format_call(call) for call in seen.calls if not (call.is_2x and _is_inside(call, scope.neck)))
    if not doubling:
        where = f"in '{scope.neck}' " if scope.neck else ""
        return FinderResult(
            reason=f"no F.interpolate {where}that doubles a map"
            + (f" (there are: {'; '.join(others)})" if others else "")
        )
    if len(owners) > 1 and not scope.neck:
        listed = ", ".join(f"'{owner}' ({count})" for owner, count in owners.most_common())
        raise ValueError(
            f"Several modules double maps: {listed}. Some may be masks or position embeddings, which must stay: "
            f"say which one is the neck, e.g. upgrade(model, …, neck='{next(iter(owners))}')."
        )
    path = scope.neck or next(iter(owners))
    neck = scope.model.get_submodule(path)
    steps = tuple(_site_step(call) for call in seen.calls_within(path) if call.is_2x)
    site = UpgradeSite(
        path, steps, doubling[0].like, lambda additions: UpgradedNeck.upgrade(neck, StepAdapters(additions))
    )
    return FinderResult((site,), seen.image_size, others)


FINDERS: dict[str, Callable[[SearchScope], FinderResult]] = {
    "torchvision FPN": find_torchvision_fpns,
    "FeatLift pyramid": find_featlift_pyramids,
    "nn.Upsample": find_upsample_modules,
    "F.interpolate": find_interpolate_calls,
}


def _collect_pyramid_sites(
    scope: SearchScope, pyramids: Sequence[tuple[str, Any]], make_site: Callable[..., UpgradeSite], empty_reason: str
) -> FinderResult:
    sites, left, picture = [], [], None
    for path, pyramid in pyramids:
        seen = scope.trace_around(path)
        new = make_site(path, pyramid, seen.calls_within(path) if seen else [])
        picture = seen.image_size if seen else picture
        left += [_format_call(step.call) for step in new.steps if step.call and not step.is_2x]
        sites += [new] if any(step.is_2x for step in new.steps) else []
    if pyramids and not sites:
        raise ValueError(
            f"There is a pyramid, but it doubles nothing: {'; '.join(left)}. Its backbone levels have one stride."
        )
    return FinderResult(tuple(sites), picture, tuple(left), "" if pyramids else empty_reason)


def _torchvision_site(path: str, pyramid: FeaturePyramidNetwork, calls: Sequence[InterpolateCall]) -> UpgradeSite:
    like = next(pyramid.layer_blocks.parameters())
    unseen = (SiteStep(like.shape[1], "nearest"),) * (len(pyramid.layer_blocks) - 1)
    own = tuple(_site_step(call) for call in calls if call.owner == path)
    return UpgradeSite(
        path, own or unseen, like.detach(), lambda additions: UpgradedFPN.upgrade(pyramid, StepAdapters(additions))
    )


def _upsample_site(path: str, upsample: nn.Upsample, call: InterpolateCall) -> UpgradeSite:
    def install(additions: list[nn.Module | None]) -> None:
        for added in filter(None, additions):
            UpgradedUpsample.upgrade(upsample, added)

    return UpgradeSite(path, (_site_step(call),), call.like, install)


def _featlift_site(path: str, pyramid: Any, calls: Sequence[InterpolateCall]) -> UpgradeSite:
    like = next(pyramid.parameters())
    fixed = list(pyramid.interpolators)
    unseen = tuple(SiteStep(pyramid.out_channels, f.mode) for f in fixed)
    inside = f"{path}.interpolators.".removeprefix(".")
    steps = tuple(_site_step(call) for call in calls if call.owner.startswith(inside)) or unseen

    def install(additions: list[nn.Module | None]) -> None:
        each = [fixed[step % len(fixed)] for step in range(len(additions))]
        shared = {(f, a): UpgradedFixed(f, a) for f, a in zip(each, additions, strict=True) if a is not None}
        pyramid.interpolators = nn.ModuleList(shared.values()).train(pyramid.training)

    return UpgradeSite(path, steps, like.detach(), install)


def _site_step(call: InterpolateCall) -> SiteStep:
    return SiteStep(call.channels, call.mode, call)


def _is_featlift_pyramid(module: nn.Module) -> bool:
    held = getattr(module, "interpolators", None)
    return isinstance(held, nn.ModuleList) and all(type(i) in INTERPOLATORS.values() for i in held)


def _is_inside(call: InterpolateCall, path: str) -> bool:
    return not path or f"{call.owner}.".startswith(f"{path}.")


def _is_2x_upsample(upsample: nn.Module) -> bool:
    scale = upsample.scale_factor
    return all(s == 2 for s in (scale if isinstance(scale, tuple) else (scale,)))


def _format_call(call: InterpolateCall) -> str:
    sizes = " → ".join(f"{height}x{width}" for height, width in (call.in_size, call.out_size))
    return f"{call.owner or 'the model itself'}: {call.mode}, {call.channels} channels, {sizes}"
