"""Finders: strategies that locate the 2x upsampling steps of an arbitrary network and describe how to upgrade them.

A finder is a function ``SearchScope → FinderResult``. Finders are tried in the order of :data:`FINDERS`.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from torch import nn
from torchvision.ops.feature_pyramid_network import FeaturePyramidNetwork

from featlift.interpolators import INTERPOLATORS
from featlift.interpolators.fixed import FixedInterpolator
from featlift.upgrading.adapters import StepAdapters
from featlift.upgrading.modules import UpgradedFixed, UpgradedFPN, UpgradedNeck, UpgradedUpsample
from featlift.upgrading.sites import FinderResult, SearchScope, SiteStep, UpgradeSite
from featlift.upgrading.tracing import InterpolateCall


def find_torchvision_fpns(scope: SearchScope) -> FinderResult:
    """Find torchvision's ``FeaturePyramidNetwork``, without subclasses, whose ``forward`` may differ.

    Only the parent module is run, on a black image.
    """
    fpns = [(p, m) for p, m in scope.modules_of_type(FeaturePyramidNetwork) if type(m) is FeaturePyramidNetwork]
    return _collect_pyramid_sites(scope, fpns, _torchvision_site, "no torchvision FeaturePyramidNetwork")


def find_featlift_pyramids(scope: SearchScope) -> FinderResult:
    """Find FeatLift pyramids with fixed interpolators.

    Raises:
        ValueError: If all FeatLift pyramids already have learned interpolators.
    """
    pyramids: list[tuple[str, Any]] = [
        (path, module) for path, module in scope.modules_of_type(nn.Module) if _is_featlift_pyramid(module)
    ]
    fixed = [
        (path, pyramid)
        for path, pyramid in pyramids
        if all(isinstance(i, FixedInterpolator) for i in pyramid.interpolators)
    ]
    if pyramids and not fixed:
        path, pyramid = pyramids[0]
        class_names = sorted({type(i).__name__ for i in pyramid.interpolators})
        raise ValueError(
            f"The pyramid '{path}' already has learned interpolators ({', '.join(class_names)}); nothing to upgrade."
        )
    return _collect_pyramid_sites(scope, fixed, _featlift_site, "no FeatLift pyramid")


def find_upsample_modules(scope: SearchScope) -> FinderResult:
    """Find ``nn.Upsample(scale_factor=2)``, as in the necks of YOLO."""
    modules: list[tuple[str, Any]] = scope.modules_of_type(nn.Upsample)
    modules_2x = [(path, module) for path, module in modules if _is_2x_upsample(module)]
    if not modules_2x:
        reason = f"{len(modules)} nn.Upsample, none with scale_factor=2" if modules else "no nn.Upsample"
        return FinderResult(reason=reason)
    trace = scope.trace()
    sites = []
    skipped = [f"{path}: nn.Upsample, factor is not 2" for path, module in modules if not _is_2x_upsample(module)]
    for path, module in modules_2x:
        calls = trace.calls_within(path)
        if not calls:
            skipped.append(f"{path}: nn.Upsample, not used on the example inputs")
            continue
        sites.append(_upsample_site(path, module, calls[0]))
    return FinderResult(tuple(sites), trace.image_size, tuple(skipped), "" if sites else "; ".join(skipped))


def find_interpolate_calls(scope: SearchScope) -> FinderResult:
    """Find calls of ``torch.nn.functional.interpolate`` in the ``forward`` of one module, the neck.

    Raises:
        ValueError: If no neck is given and several modules upsample maps by 2.
    """
    trace = scope.trace()
    calls_2x = [call for call in trace.calls_within(scope.neck) if call.is_2x]
    owners = Counter(call.owner for call in calls_2x)
    skipped = tuple(_format_call(call) for call in trace.calls if not (call.is_2x and _is_inside(call, scope.neck)))
    if not calls_2x:
        location = f"in '{scope.neck}' " if scope.neck else ""
        return FinderResult(
            reason=f"no F.interpolate {location}that upsamples a map by 2"
            + (f" (other calls: {'; '.join(skipped)})" if skipped else "")
        )
    if len(owners) > 1 and not scope.neck:
        candidates = ", ".join(f"'{owner}' ({count})" for owner, count in owners.most_common())
        raise ValueError(
            f"Several modules upsample maps by 2: {candidates}. Masks and position embeddings must not be changed; "
            f"name the neck, e.g. upgrade(model, …, neck='{next(iter(owners))}')."
        )
    path = scope.neck or next(iter(owners))
    neck = scope.model.get_submodule(path)
    steps = tuple(_site_step(call) for call in trace.calls_within(path) if call.is_2x)
    site = UpgradeSite(
        path, steps, calls_2x[0].like, lambda adapters: UpgradedNeck.upgrade(neck, StepAdapters(adapters))
    )
    return FinderResult((site,), trace.image_size, skipped)


FINDERS: dict[str, Callable[[SearchScope], FinderResult]] = {
    "torchvision FPN": find_torchvision_fpns,
    "FeatLift pyramid": find_featlift_pyramids,
    "nn.Upsample": find_upsample_modules,
    "F.interpolate": find_interpolate_calls,
}


def _collect_pyramid_sites(
    scope: SearchScope, pyramids: Sequence[tuple[str, Any]], make_site: Callable[..., UpgradeSite], empty_reason: str
) -> FinderResult:
    sites, skipped, image_size = [], [], None
    for path, pyramid in pyramids:
        trace = scope.trace_around(path)
        site = make_site(path, pyramid, trace.calls_within(path) if trace else [])
        image_size = trace.image_size if trace else image_size
        skipped += [_format_call(step.call) for step in site.steps if step.call and not step.is_2x]
        sites += [site] if any(step.is_2x for step in site.steps) else []
    if pyramids and not sites:
        raise ValueError(
            f"The pyramid upsamples no map by 2: {'; '.join(skipped)}. All its backbone levels have the same stride."
        )
    return FinderResult(tuple(sites), image_size, tuple(skipped), "" if pyramids else empty_reason)


def _torchvision_site(path: str, pyramid: FeaturePyramidNetwork, calls: Sequence[InterpolateCall]) -> UpgradeSite:
    like = next(pyramid.layer_blocks.parameters())
    untraced = (SiteStep(like.shape[1], "nearest"),) * (len(pyramid.layer_blocks) - 1)
    traced = tuple(_site_step(call) for call in calls if call.owner == path)
    return UpgradeSite(
        path, traced or untraced, like.detach(), lambda adapters: UpgradedFPN.upgrade(pyramid, StepAdapters(adapters))
    )


def _upsample_site(path: str, upsample: nn.Upsample, call: InterpolateCall) -> UpgradeSite:
    def install(adapters: list[nn.Module | None]) -> None:
        for adapter in filter(None, adapters):
            UpgradedUpsample.upgrade(upsample, adapter)

    return UpgradeSite(path, (_site_step(call),), call.like, install)


def _featlift_site(path: str, pyramid: Any, calls: Sequence[InterpolateCall]) -> UpgradeSite:
    like = next(pyramid.parameters())
    fixed = list(pyramid.interpolators)
    untraced = tuple(SiteStep(pyramid.out_channels, f.mode) for f in fixed)
    prefix = f"{path}.interpolators.".removeprefix(".")
    steps = tuple(_site_step(call) for call in calls if call.owner.startswith(prefix)) or untraced

    def install(adapters: list[nn.Module | None]) -> None:
        fixed_per_step = [fixed[step % len(fixed)] for step in range(len(adapters))]
        pairs = zip(fixed_per_step, adapters, strict=True)
        upgraded = {(f, a): UpgradedFixed(f, a) for f, a in pairs if a is not None}
        pyramid.interpolators = nn.ModuleList(upgraded.values()).train(pyramid.training)

    return UpgradeSite(path, steps, like.detach(), install)


def _site_step(call: InterpolateCall) -> SiteStep:
    return SiteStep(call.channels, call.mode, call)


def _is_featlift_pyramid(module: nn.Module) -> bool:
    modules = getattr(module, "interpolators", None)
    return isinstance(modules, nn.ModuleList) and all(type(i) in INTERPOLATORS.values() for i in modules)


def _is_inside(call: InterpolateCall, path: str) -> bool:
    return not path or f"{call.owner}.".startswith(f"{path}.")


def _is_2x_upsample(upsample: nn.Module) -> bool:
    scale = upsample.scale_factor
    return all(s == 2 for s in (scale if isinstance(scale, tuple) else (scale,)))


def _format_call(call: InterpolateCall) -> str:
    sizes = " → ".join(f"{height}x{width}" for height, width in (call.in_size, call.out_size))
    return f"{call.owner or 'the model itself'}: {call.mode}, {call.channels} channels, {sizes}"
