"""Put learned interpolators, or a finer level, into a network that already exists, and take them out again."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from featlift.upgrading.extended_level import FinerBackbone, FinerPooling, add_level, level_row
from featlift.upgrading.finders import DOORS, Network, Site, View
from featlift.upgrading.modules import Redirected, UpgradedFixed, UpgradedFPN, UpgradedUpsample
from featlift.upgrading.report import UpgradeReport, rows
from featlift.upgrading.residual import additions

UPGRADED = (UpgradedFPN, UpgradedFixed, UpgradedUpsample, Redirected, FinerBackbone, FinerPooling)
MARK = "_upgraded"
PICTURE = (256, 256)
"""(H, W) for which the cost of a level is reported."""


class Originals:
    """Every tensor of the state dict as it was before the upgrade, copied to the CPU; copies of a network share it."""

    def __init__(self, model: nn.Module):
        state = model.state_dict()
        self.tensors = {name: x.detach().to("cpu", copy=True) for name, x in state.items() if isinstance(x, Tensor)}

    def __deepcopy__(self, memo: dict[int, Any]) -> "Originals":
        return self


@dataclass
class Upgraded:
    """What is remembered about an upgraded network: the arguments of :func:`upgrade`, where it went, and what was there."""

    name: str
    options: dict[str, object]
    neck: str
    sites: tuple[tuple[str, int], ...]
    """Dotted name of each site, and its steps."""
    originals: Originals
    level: str = ""


def upgrade(
    model: nn.Module, name: str = "", neck: str = "", example: Any = None, level: str = "", **options: object
) -> UpgradeReport:
    """Make every doubling in the pyramid of ``model`` a learned one, in place.

    The new part is added to the interpolation that is there and starts as exactly zero: outputs are the same, to the last bit, until it is
    trained. It has the type and device of what is around it. Build the optimiser afterwards, or add :func:`added_parameters` to it.

    Doors, in this order, until one opens: torchvision's ``FeaturePyramidNetwork``; pyramids of FeatLift with fixed interpolators;
    ``nn.Upsample(scale_factor=2)``; calls of ``torch.nn.functional.interpolate`` that double a map in the ``forward`` of one module.

    With ``level="p2x"`` a torchvision Faster or Mask R-CNN gets EFPN's finer level instead. It is not read, so that outputs are the same,
    until it was taught (:func:`~featlift.upgrading.extended_level.distillation`) and :func:`~featlift.upgrading.extended_level.use_level` is called.

    Args:
        model: any network with one of these. A copy of its weights as they are now is kept on the CPU, for :func:`downgrade`.
        name: an interpolator by its name (``featlift.interpolators.INTERPOLATORS``), by default "afi"; for a level a transfer by its name
            (``featlift.pyramids.efpn.TRANSFERS``), by default "ftt", the narrow one.
        neck: dotted name of the module to look in; all of the model if empty.
        example: what to run the model on once to see maps and channels: its argument, or a tuple of its arguments. None is a black
            picture ``[1, 3, 256, 256]``.
        level: "p2x" adds this level; empty changes interpolations.
        options: of the interpolator, without ``init`` and ``shortcut``, which an upgrade sets itself; of the transfer, and ``tile``: side
            in cells of stride 8 of the windows that the level is computed in (0 computes all of it).

    Raises:
        ValueError: if nothing doubles (it says what was looked at), for a network that is upgraded already, for unknown names and options.
    """
    _refuse_twice(model)
    if level:
        return _with_level(model, level, name or "ftt", options)
    name = name or "afi"
    if neck not in dict(model.named_modules()):
        raise ValueError(
            f"There is no module '{neck}' in {type(model).__name__}; see [n for n, _ in model.named_modules()]."
        )
    door, view, closed = _opened(Network(model, neck, example))
    _refuse_the_same(view, name)
    built = [_built(site, name, options) for site in view.sites]
    originals = Originals(model)
    for site, parts in zip(view.sites, built, strict=True):
        site.install(parts)
    sites = tuple((site.path, len(site.steps)) for site in view.sites)
    setattr(model, MARK, Upgraded(name, options, neck, sites, originals))
    table = [
        row for site, parts in zip(view.sites, built, strict=True) for row in rows(site, parts, name, view.picture)
    ]
    return UpgradeReport(door, tuple(table), view.picture, view.untouched, closed)


def _with_level(model: nn.Module, level: str, name: str, options: dict[str, object]) -> UpgradeReport:
    originals = Originals(model)
    sites = tuple((path, 1) for path in add_level(model, level, name, options))
    setattr(model, MARK, Upgraded(name, options, "", sites, originals, level))
    return UpgradeReport("torchvision R-CNN", (level_row(model, level, name, PICTURE),), PICTURE, (), ())


def downgrade(model: nn.Module) -> None:
    """Bring an upgraded network back to what it was: the same modules, names and values; what was trained since is lost.

    Raises:
        ValueError: if it was not upgraded, or other parts of it were exchanged since, so that old values have no place.
    """
    memory = remembered(model)
    _refuse_exchanged(model, memory)
    for path, _ in memory.sites:
        _restore(model.get_submodule(path))
    delattr(model, MARK)
    reset(model, memory.originals.tensors)


def added_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that the upgrade added, by their names in ``model``. Raises ValueError if it was not upgraded."""
    originals = remembered(model).originals.tensors
    return {name: p for name, p in model.named_parameters() if name not in originals}


def is_upgraded(model: nn.Module) -> bool:
    """Whether :func:`upgrade` was called on ``model`` (not on a part of it)."""
    return hasattr(model, MARK)


def remembered(model: nn.Module) -> Upgraded:
    """What :func:`upgrade` remembers about ``model``. Raises ValueError if it was not upgraded."""
    if not is_upgraded(model):
        inside = [path for path, module in model.named_modules() if hasattr(module, MARK)]
        hint = f" Its part '{inside[0]}' was: give model.get_submodule('{inside[0]}')." if inside else ""
        raise ValueError(f"This {type(model).__name__} was not upgraded.{hint}")
    return getattr(model, MARK)


@torch.no_grad()
def reset(model: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Copy ``tensors`` into those of ``model`` that have their names, in place."""
    state = model.state_dict()
    for name, x in tensors.items():
        state[name].copy_(x)


def _opened(network: Network) -> tuple[str, View, tuple[str, ...]]:
    """The first door with something behind it, the view, and why those before it did not open."""
    closed: list[str] = []
    for door, look in DOORS.items():
        try:
            view = look(network)
        except ValueError as error:
            before = f" (Looked at before: {'; '.join(closed)}.)" if closed else ""
            raise ValueError(f"{error}{before}") from error
        if view.sites:
            return door, view, tuple(closed)
        closed.append(f"{door}: {view.why}")
    raise ValueError(f"Nothing was found that doubles a map. Looked at: {'; '.join(closed)}.")


def _built(site: Site, name: str, options: dict[str, object]) -> list[nn.Module | None]:
    """An addition for each step of the site, or None; with the type and device of what is around it."""
    made = additions(name, [step.channels if step.doubles else None for step in site.steps], options)
    for part in made:
        if part is not None:
            part.to(site.like.device, site.like.dtype)
    return made


def _restore(module: nn.Module) -> None:
    if isinstance(module, (UpgradedFPN, UpgradedUpsample, Redirected, FinerBackbone, FinerPooling)):
        module.restore()
    else:
        module.interpolators = nn.ModuleList(dict.fromkeys(i.fixed for i in module.interpolators))  # type: ignore[union-attr]


def _refuse_twice(model: nn.Module) -> None:
    upgraded = [path for path, module in model.named_modules() if isinstance(module, UPGRADED)]
    if upgraded:
        raise ValueError(
            f"This {type(model).__name__} is upgraded already, at {', '.join(repr(path) for path in upgraded)}. "
            "To try another interpolator, downgrade it first."
        )


def _refuse_the_same(view: View, name: str) -> None:
    if {step.mode for site in view.sites for step in site.steps} == {name}:
        raise ValueError(f"{name} interpolation is what is there already; choose a learned one, such as 'afi'.")


def _refuse_exchanged(model: nn.Module, memory: Upgraded) -> None:
    state = model.state_dict()
    lost = [n for n, x in memory.originals.tensors.items() if n not in state or state[n].shape != x.shape]
    if lost:
        raise ValueError(
            f"{len(lost)} tensors of the network before the upgrade have no place in it any more ({', '.join(lost[:4])}…): "
            "parts of it were exchanged since. Put the old parts back first; the next time, exchange parts before the upgrade."
        )
