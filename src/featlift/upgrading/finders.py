"""Where a doubling can be found in somebody else's network, and how each kind of place is upgraded.

A door is a function: network, part to look in, example → the sites behind it. Doors are tried in the order of :data:`DOORS`.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn
from torchvision.ops.feature_pyramid_network import FeaturePyramidNetwork

from featlift.interpolators import INTERPOLATORS
from featlift.interpolators.fixed import Fixed
from featlift.upgrading.modules import Redirected, UpgradedFixed, UpgradedFPN, UpgradedUpsample
from featlift.upgrading.residual import Steps
from featlift.upgrading.tracing import Call, Seen, run


@dataclass(frozen=True)
class Step:
    """One interpolation of a site: its channels and, where a run showed it, its call. ``doubles`` is false if it is to be left alone."""

    channels: int
    mode: str
    call: Call | None = None

    @property
    def doubles(self) -> bool:
        """True also if nobody has seen it run: then an example that does not double ends in an error."""
        return self.call is None or self.call.doubles


@dataclass(frozen=True)
class Site:
    """A module that can be upgraded, and the steps it takes in one forward."""

    path: str
    steps: tuple[Step, ...]
    like: Tensor
    """A tensor with the type and device that its new parameters are to have."""
    install: Callable[[list[nn.Module | None]], None]
    """Takes an addition, or None, for each step."""


@dataclass(frozen=True)
class View:
    """What a door showed: sites, the picture's (H, W) if it is known, what was left alone, and why nothing was found."""

    sites: tuple[Site, ...] = ()
    picture: tuple[int, int] | None = None
    untouched: tuple[str, ...] = ()
    why: str = ""


@dataclass
class Network:
    """The network to be upgraded, the part of it to look in (dotted name; empty is all of it), and an example to run it on."""

    model: nn.Module
    part: str = ""
    example: Any = None
    _seen: Seen | None = field(default=None, init=False, repr=False)

    def modules(self, kind: type) -> list[tuple[str, nn.Module]]:
        """The modules of this kind in the part, with their names in the model."""
        found = self.model.get_submodule(self.part).named_modules(prefix=self.part)
        return [(path, module) for path, module in found if isinstance(module, kind)]

    def seen(self) -> Seen:
        """What the whole model interpolates on the example; run once. Raises ValueError if it cannot be run."""
        if self._seen is None:
            try:
                self._seen = run(self.model, example=self.example)
            except Exception as error:  # a foreign network may raise anything
                what = "a black picture [1, 3, 256, 256]" if self.example is None else "the example"
                raise ValueError(
                    f"{type(self.model).__name__} could not be run on {what} to see which maps it doubles "
                    f"({type(error).__name__}: {error}). Give what it takes as example=… (a tuple for several arguments)."
                ) from error
        return self._seen

    def seen_around(self, path: str) -> Seen | None:
        """What the module around ``path`` interpolates on a black picture, if it takes one; with an example, :meth:`seen`."""
        if self.example is not None:
            return self.seen()
        try:
            return run(self.model, path.rpartition(".")[0])
        except Exception:  # a foreign network may raise anything, and only the table needs what would be seen
            return None


def torchvision_pyramids(network: Network) -> View:
    """``FeaturePyramidNetwork``, not its subclasses (their ``forward`` may be another). Runs only what is around it, on a black picture."""
    found = [(p, m) for p, m in network.modules(FeaturePyramidNetwork) if type(m) is FeaturePyramidNetwork]
    return _pyramids(network, found, _torchvision_site, "no torchvision FeaturePyramidNetwork")


def own_pyramids(network: Network) -> View:
    """Pyramids of FeatLift whose interpolators are fixed.

    Raises:
        ValueError: if all there are have learned ones.
    """
    found: list[tuple[str, Any]] = [(path, module) for path, module in network.modules(nn.Module) if _is_own(module)]
    fixed = [(path, pyramid) for path, pyramid in found if all(isinstance(i, Fixed) for i in pyramid.interpolators)]
    if found and not fixed:
        path, pyramid = found[0]
        kinds = sorted({type(i).__name__ for i in pyramid.interpolators})
        raise ValueError(
            f"The pyramid '{path}' already has learned interpolators: {', '.join(kinds)}. There is nothing to upgrade."
        )
    return _pyramids(network, fixed, _own_site, "no pyramid of FeatLift")


def upsamples(network: Network) -> View:
    """``nn.Upsample(scale_factor=2)``, as the necks of YOLO have it."""
    every: list[tuple[str, Any]] = network.modules(nn.Upsample)
    twice = [(path, module) for path, module in every if _is_twice(module)]
    if not twice:
        return View(why=f"{len(every)} nn.Upsample, none with scale_factor=2" if every else "no nn.Upsample")
    seen = network.seen()
    sites, unused = [], [f"{path}: nn.Upsample that is not twice" for path, module in every if not _is_twice(module)]
    for path, module in twice:
        calls = seen.within(path)
        if not calls:
            unused.append(f"{path}: nn.Upsample, not used on the example")
            continue
        sites.append(_upsample_site(path, module, calls[0]))
    return View(tuple(sites), seen.picture, tuple(unused), "" if sites else "; ".join(unused))


def functional(network: Network) -> View:
    """Calls of ``torch.nn.functional.interpolate`` in the ``forward`` of one module, the neck.

    Raises:
        ValueError: if no part was named and the doublings are made by several modules.
    """
    seen = network.seen()
    doubling = [call for call in seen.within(network.part) if call.doubles]
    owners = Counter(call.owner for call in doubling)
    others = tuple(_described(call) for call in seen.calls if not (call.doubles and _is_in(call, network.part)))
    if not doubling:
        where = f"in '{network.part}' " if network.part else ""
        return View(
            why=f"no F.interpolate {where}that doubles a map" + (f" (there are: {'; '.join(others)})" if others else "")
        )
    if len(owners) > 1 and not network.part:
        listed = ", ".join(f"'{owner}' ({count})" for owner, count in owners.most_common())
        raise ValueError(
            f"Several modules double maps: {listed}. Some may be masks or position embeddings, which must stay: "
            f"say which one is the neck, e.g. upgrade(model, …, neck='{next(iter(owners))}')."
        )
    path = network.part or next(iter(owners))
    neck = network.model.get_submodule(path)
    steps = tuple(_step(call) for call in seen.within(path) if call.doubles)
    site = Site(path, steps, doubling[0].like, lambda additions: Redirected.upgrade(neck, Steps(additions)))
    return View((site,), seen.picture, others)


DOORS: dict[str, Callable[[Network], View]] = {
    "torchvision FPN": torchvision_pyramids,
    "FeatLift pyramid": own_pyramids,
    "nn.Upsample": upsamples,
    "F.interpolate": functional,
}


def _pyramids(network: Network, found: Sequence[tuple[str, Any]], site: Callable[..., Site], none: str) -> View:
    sites, left, picture = [], [], None
    for path, pyramid in found:
        seen = network.seen_around(path)
        new = site(path, pyramid, seen.within(path) if seen else [])
        picture = seen.picture if seen else picture
        left += [_described(step.call) for step in new.steps if step.call and not step.doubles]
        sites += [new] if any(step.doubles for step in new.steps) else []
    if found and not sites:
        raise ValueError(
            f"There is a pyramid, but it doubles nothing: {'; '.join(left)}. Its backbone levels have one stride."
        )
    return View(tuple(sites), picture, tuple(left), "" if found else none)


def _torchvision_site(path: str, pyramid: FeaturePyramidNetwork, calls: Sequence[Call]) -> Site:
    like = next(pyramid.layer_blocks.parameters())
    unseen = (Step(like.shape[1], "nearest"),) * (len(pyramid.layer_blocks) - 1)
    own = tuple(_step(call) for call in calls if call.owner == path)
    return Site(path, own or unseen, like.detach(), lambda additions: UpgradedFPN.upgrade(pyramid, Steps(additions)))


def _upsample_site(path: str, upsample: nn.Upsample, call: Call) -> Site:
    def install(additions: list[nn.Module | None]) -> None:
        for added in filter(None, additions):
            UpgradedUpsample.upgrade(upsample, added)

    return Site(path, (_step(call),), call.like, install)


def _own_site(path: str, pyramid: Any, calls: Sequence[Call]) -> Site:
    like = next(pyramid.parameters())
    fixed = list(pyramid.interpolators)
    unseen = tuple(Step(pyramid.out_channels, f.mode) for f in fixed)
    inside = f"{path}.interpolators.".removeprefix(".")
    steps = tuple(_step(call) for call in calls if call.owner.startswith(inside)) or unseen

    def install(additions: list[nn.Module | None]) -> None:
        each = [fixed[step % len(fixed)] for step in range(len(additions))]
        shared = {(f, a): UpgradedFixed(f, a) for f, a in zip(each, additions, strict=True) if a is not None}
        pyramid.interpolators = nn.ModuleList(shared.values()).train(pyramid.training)

    return Site(path, steps, like.detach(), install)


def _step(call: Call) -> Step:
    return Step(call.channels, call.mode, call)


def _is_own(module: nn.Module) -> bool:
    held = getattr(module, "interpolators", None)
    return isinstance(held, nn.ModuleList) and all(type(i) in INTERPOLATORS.values() for i in held)


def _is_in(call: Call, part: str) -> bool:
    return not part or f"{call.owner}.".startswith(f"{part}.")


def _is_twice(upsample: nn.Module) -> bool:
    scale = upsample.scale_factor
    return all(s == 2 for s in (scale if isinstance(scale, tuple) else (scale,)))


def _described(call: Call) -> str:
    sizes = " → ".join(f"{height}x{width}" for height, width in (call.size, call.target))
    return f"{call.owner or 'the model itself'}: {call.mode}, {call.channels} channels, {sizes}"
