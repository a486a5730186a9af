"""Find the upsampling steps of an arbitrary network, and say how each can be upgraded.

Steps are found in one trace of the network (:mod:`featlift.upgrading.tracing`). Each belongs to the innermost module that can distinguish
its calls: the module runs once in a forward pass, or it has parameters, which all its runs share, as they then share the adapters. So
an ``nn.Upsample`` that is used twice has its steps in its caller.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

from torch import nn
from torchvision.ops.feature_pyramid_network import FeaturePyramidNetwork

from featlift.interpolators import INTERPOLATORS
from featlift.interpolators.fixed import FixedInterpolator
from featlift.upgrading.adapters import CallAdapters, StepAdapters
from featlift.upgrading.interpolate_call import CallKey
from featlift.upgrading.modules import UpgradedFixed, UpgradedFPN, UpgradedNeck, UpgradedUpsample
from featlift.upgrading.sites import FinderResult, SiteStep, UpgradeSite
from featlift.upgrading.skip_reasons import is_forced_by_neck, skip_reason
from featlift.upgrading.tracing import InterpolateCall, InterpolationTrace

TORCHVISION, FEATLIFT, UPSAMPLE, INTERPOLATE = "torchvision FPN", "FeatLift pyramid", "nn.Upsample", "F.interpolate"
FINDERS = (TORCHVISION, FEATLIFT, UPSAMPLE, INTERPOLATE)
"""Kinds of sites: torchvision's ``FeaturePyramidNetwork`` (without subclasses, whose ``forward`` may differ), FeatLift's pyramids with
fixed interpolators, ``nn.Upsample`` that is called once, and any other module that calls ``torch.nn.functional.interpolate``."""


def find_sites(model: nn.Module, necks: Sequence[str], trace: InterpolationTrace) -> FinderResult:
    """Return the sites of the upsampling steps in ``trace`` of ``model`` within the submodules ``necks`` (none: everywhere)."""
    modules = dict(model.named_modules())
    kept, skipped = _select_calls(trace.calls, necks, modules)
    owned: dict[str, list[InterpolateCall]] = defaultdict(list)
    for call in kept:
        owned[_find_owner(call, modules, trace.run_counts)].append(call)
    for path in sorted(owned):
        if path in owned and _kind(path, modules) == INTERPOLATE:
            _absorb_nested(path, owned)
    sites = [_traced_site(path, modules, calls, trace) for path, calls in owned.items()]
    order = {call: number for number, call in enumerate(trace.calls)}
    sites.sort(key=lambda site: min(order[step.call] for step in site.steps if step.call))
    upgraded = {step.call for site in sites for step in site.steps if step.is_2x}
    left = tuple(f"{call} ({reason})" for call, reason in skipped if call not in upgraded)
    return FinderResult(tuple(sites), trace.image_size, left)


def find_untraced_sites(model: nn.Module, necks: Sequence[str]) -> FinderResult:
    """Return the sites that need no trace: torchvision's FPNs and FeatLift's pyramids with fixed interpolators."""
    sites = []
    for path, module in model.named_modules():
        if _is_in(path, necks) and type(module) is FeaturePyramidNetwork:
            steps = (SiteStep(next(module.layer_blocks.parameters()).shape[1], "nearest"),) * (
                len(module.layer_blocks) - 1
            )
            sites.append(_torchvision_site(path, module, steps))
        elif _is_in(path, necks) and has_fixed_interpolators(module):
            fixed: Any = module
            sites.append(
                _featlift_site(path, fixed, [SiteStep(fixed.out_channels, i.mode) for i in fixed.interpolators])
            )
    return FinderResult(tuple(sites))


def is_featlift_pyramid(module: nn.Module) -> bool:
    """Return whether ``module`` is one of FeatLift's pyramids, with interpolators of FeatLift."""
    interpolators = getattr(module, "interpolators", None)
    return isinstance(interpolators, nn.ModuleList) and all(type(i) in INTERPOLATORS.values() for i in interpolators)


def has_fixed_interpolators(module: nn.Module) -> bool:
    """Return whether ``module`` is one of FeatLift's pyramids, with fixed interpolators only."""
    return is_featlift_pyramid(module) and all(isinstance(i, FixedInterpolator) for i in module.interpolators)  # type: ignore[union-attr]


def _select_calls(
    calls: Sequence[InterpolateCall], necks: Sequence[str], modules: dict[str, nn.Module]
) -> tuple[list[InterpolateCall], list[tuple[InterpolateCall, str]]]:
    """Return the upsampling steps, and the other calls with the reasons. If the necks have no other steps, logits and masks in them are."""
    reasons = [(call, skip_reason(call, modules)) for call in calls]
    inside = [any(call.is_within(neck) for neck in necks) or not necks for call in calls]
    kept = [call for (call, reason), is_inside in zip(reasons, inside, strict=True) if is_inside and not reason]
    if necks and not kept:
        kept = [
            c for (c, reason), is_inside in zip(reasons, inside, strict=True) if is_inside and is_forced_by_neck(reason)
        ]
    return kept, [(call, reason or "outside of the neck") for call, reason in reasons if call not in kept]


def _find_owner(call: InterpolateCall, modules: dict[str, nn.Module], run_counts: Counter[str]) -> str:
    pyramids = [
        n
        for n, _ in call.stack
        if has_fixed_interpolators(modules[n]) and call.is_within(f"{n}.interpolators".lstrip("."))
    ]
    names = [name for name, _ in reversed(call.stack)]
    for name in names:
        if name and any(name.startswith(f"{p}.interpolators".lstrip(".")) for p in pyramids):
            continue
        if run_counts[name] == 1 or not name or next(modules[name].parameters(), None) is not None:
            return name
    raise AssertionError("the model itself is in every stack")


def _absorb_nested(path: str, owned: dict[str, list[InterpolateCall]]) -> None:
    """Give ``path`` the calls of the owners inside of it: only one module may intercept a call."""
    for nested in [other for other in owned if other != path and (not path or other.startswith(f"{path}."))]:
        owned[path] += owned.pop(nested)


def _kind(path: str, modules: dict[str, nn.Module]) -> str:
    module = modules[path]
    if type(module) is FeaturePyramidNetwork:
        return TORCHVISION
    if has_fixed_interpolators(module):
        return FEATLIFT
    return UPSAMPLE if isinstance(module, nn.Upsample) else INTERPOLATE


def _traced_site(
    path: str, modules: dict[str, nn.Module], calls: list[InterpolateCall], trace: InterpolationTrace
) -> UpgradeSite:
    kind, module = _kind(path, modules), modules[path]
    if kind == INTERPOLATE:
        return _interpolate_site(path, module, calls, trace)
    first_run = next((run for name, run in calls[0].stack if name == path), 0)
    in_run = [call for call in trace.calls if (path, first_run) in call.stack]
    steps = [SiteStep(call.channels, call.mode, call) for call in in_run]
    if kind == TORCHVISION:
        own: Any = module
        return _torchvision_site(path, own, tuple(step for step in steps if step.call and step.call.owner == path))
    if kind == FEATLIFT:
        return _featlift_site(path, module, steps)
    upsample: Any = module

    def install(adapters: list[nn.Module | None]) -> None:
        for adapter in filter(None, adapters):
            UpgradedUpsample.upgrade(upsample, adapter)

    return UpgradeSite(path, kind, (steps[0],), calls[0].like, install)


def _interpolate_site(
    path: str, module: nn.Module, calls: list[InterpolateCall], trace: InterpolationTrace
) -> UpgradeSite:
    keyed: dict[CallKey, InterpolateCall] = {}
    for call, key in _call_keys(path, trace):
        if call in calls:
            keyed.setdefault(key, call)

    def install(adapters: list[nn.Module | None]) -> None:
        pairs = zip(keyed, adapters, strict=True)
        UpgradedNeck.upgrade(module, CallAdapters({key: adapter for key, adapter in pairs if adapter is not None}))

    steps = tuple(SiteStep(call.channels, call.mode, call) for call in keyed.values())
    return UpgradeSite(path, INTERPOLATE, steps, calls[0].like, install)


def _call_keys(path: str, trace: InterpolationTrace) -> list[tuple[InterpolateCall, CallKey]]:
    """Return the calls in all runs of the module ``path``, each with its signature and its number among those in the same run."""
    counts: Counter[Any] = Counter()
    keys = []
    for call in trace.calls:
        run = next((run for name, run in call.stack if name == path), None)
        if run is not None:
            keys.append((call, (call.signature, counts[run, call.signature])))
            counts[run, call.signature] += 1
    return keys


def _torchvision_site(path: str, pyramid: FeaturePyramidNetwork, steps: tuple[SiteStep, ...]) -> UpgradeSite:
    like = next(pyramid.layer_blocks.parameters()).detach()
    return UpgradeSite(
        path, TORCHVISION, steps, like, lambda adapters: UpgradedFPN.upgrade(pyramid, StepAdapters(adapters))
    )


def _featlift_site(path: str, pyramid: Any, steps: Sequence[SiteStep]) -> UpgradeSite:
    fixed = list(pyramid.interpolators)

    def install(adapters: list[nn.Module | None]) -> None:
        fixed_per_step = [fixed[step % len(fixed)] for step in range(len(adapters))]
        pairs = zip(fixed_per_step, adapters, strict=True)
        upgraded = {(f, a): UpgradedFixed(f, a) for f, a in pairs if a is not None}
        pyramid.interpolators = nn.ModuleList(upgraded.values()).train(pyramid.training)

    return UpgradeSite(path, FEATLIFT, tuple(steps), next(pyramid.parameters()).detach(), install)


def _is_in(path: str, necks: Sequence[str]) -> bool:
    return not necks or any(not neck or f"{path}.".startswith(f"{neck}.") for neck in necks)
