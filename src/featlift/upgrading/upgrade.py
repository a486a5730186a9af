"""Put learned interpolators, or a finer level, into a network that already exists, and take them out again."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from featlift.upgrading.extended_level import EFPNBackbone, EFPNRoIAlign, install_level, level_report_row
from featlift.upgrading.finders import FINDERS, FinderResult, SearchScope, UpgradeSite
from featlift.upgrading.modules import UpgradedFixed, UpgradedFPN, UpgradedNeck, UpgradedUpsample
from featlift.upgrading.report import UpgradeReport, site_rows
from featlift.upgrading.residual import build_adapters

UPGRADED_TYPES = (UpgradedFPN, UpgradedFixed, UpgradedUpsample, UpgradedNeck, EFPNBackbone, EFPNRoIAlign)
STATE_ATTRIBUTE = "_upgraded"
REPORT_IMAGE_SIZE = (256, 256)
"""(H, W) for which the cost of a level is reported."""


class OriginalWeights:
    """Every tensor of the state dict as it was before the upgrade, copied to the CPU; copies of a network share it."""

    def __init__(self, model: nn.Module):
        state = model.state_dict()
        self.tensors = {name: x.detach().to("cpu", copy=True) for name, x in state.items() if isinstance(x, Tensor)}

    def __deepcopy__(self, memo: dict[int, Any]) -> "OriginalWeights":
        return self


@dataclass
class UpgradeState:
    """What is remembered about an upgraded network: the arguments of :func:`upgrade_detector`, where it went, and what was there."""

    name: str
    options: dict[str, object]
    neck: str
    sites: tuple[tuple[str, int], ...]
    """Dotted name of each site, and its steps."""
    original_weights: OriginalWeights
    level: str = ""


def upgrade(
    model: nn.Module, name: str = "", neck: str = "", example_inputs: Any = None, level: str = "", **options: object
) -> UpgradeReport:
    """Make every doubling in the pyramid of ``model`` a learned one, in place.

    The new part is added to the interpolation that is there and starts as exactly zero: outputs are the same, to the last bit, until it is
    trained. It has the type and device of what is around it. Build the optimizer afterwards, or add :func:`added_parameters` to it.

    Doors, in this order, until one opens: torchvision's ``FeaturePyramidNetwork``; pyramids of FeatLift with fixed interpolators;
    ``nn.Upsample(scale_factor=2)``; calls of ``torch.nn.functional.interpolate`` that double a map in the ``forward`` of one module.

    With ``level="p2x"`` a torchvision Faster or Mask R-CNN gets EFPN's finer level instead. It is not read, so that outputs are the same,
    until it was taught (:func:`~featlift.upgrading.extended_level.level_distillation_loss`) and :func:`~featlift.upgrading.extended_level.enable_level` is called.

    Args:
        model: any network with one of these. A copy of its weights as they are now is kept on the CPU, for :func:`downgrade`.
        name: an interpolator by its name (``featlift.interpolators.INTERPOLATORS``), by default "afi"; for a level a transfer by its name
            (``featlift.pyramids.efpn.TEXTURE_TRANSFERS``), by default "ftt", the narrow one.
        neck: dotted name of the module to look in; all of the model if empty.
        example_inputs: what to run the model on once to see maps and channels: its argument, or a tuple of its arguments. None is a black
            picture ``[1, 3, 256, 256]``.
        level: "p2x" adds this level; empty changes interpolations.
        options: of the interpolator, without ``init`` and ``shortcut``, which an upgrade sets itself; of the transfer, and ``tile``: side
            in cells of stride 8 of the windows that the level is computed in (0 computes all of it).

    Raises:
        ValueError: if nothing doubles (it says what was looked at), for a network that is upgraded already, for unknown names and options.
    """
    _check_not_upgraded(model)
    if level:
        return _upgrade_level(model, level, name or "ftt", options)
    name = name or "afi"
    if neck not in dict(model.named_modules()):
        raise ValueError(
            f"There is no module '{neck}' in {type(model).__name__}; see [n for n, _ in model.named_modules()]."
        )
    door, view, closed = _find_sites(SearchScope(model, neck, example_inputs))
    _check_not_present(view, name)
    built = [_adapters_for_site(site, name, options) for site in view.sites]
    originals = OriginalWeights(model)
    for site, parts in zip(view.sites, built, strict=True):
        site.install(parts)
    sites = tuple((site.path, len(site.steps)) for site in view.sites)
    setattr(model, STATE_ATTRIBUTE, UpgradeState(name, options, neck, sites, originals))
    table = [
        row
        for site, parts in zip(view.sites, built, strict=True)
        for row in site_rows(site, parts, name, view.image_size)
    ]
    return UpgradeReport(door, tuple(table), view.image_size, view.skipped, closed)


def _upgrade_level(model: nn.Module, level: str, name: str, options: dict[str, object]) -> UpgradeReport:
    originals = OriginalWeights(model)
    sites = tuple((path, 1) for path in install_level(model, level, name, options))
    setattr(model, STATE_ATTRIBUTE, UpgradeState(name, options, "", sites, originals, level))
    return UpgradeReport(
        "torchvision R-CNN", (level_report_row(model, level, name, REPORT_IMAGE_SIZE),), REPORT_IMAGE_SIZE, (), ()
    )


def downgrade(model: nn.Module) -> None:
    """Bring an upgraded network back to what it was: the same modules, names and values; what was trained since is lost.

    Raises:
        ValueError: if it was not upgraded, or other parts of it were exchanged since, so that old values have no place.
    """
    memory = get_upgrade_state(model)
    _check_restorable(model, memory)
    for path, _ in memory.sites:
        _restore_module(model.get_submodule(path))
    delattr(model, STATE_ATTRIBUTE)
    copy_tensors(model, memory.original_weights.tensors)


def added_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that the upgrade added, by their names in ``model``. Raises ValueError if it was not upgraded."""
    originals = get_upgrade_state(model).original_weights.tensors
    return {name: p for name, p in model.named_parameters() if name not in originals}


def is_upgraded(model: nn.Module) -> bool:
    """Whether :func:`upgrade_detector` was called on ``model`` (not on a part of it)."""
    return hasattr(model, STATE_ATTRIBUTE)


def get_upgrade_state(model: nn.Module) -> UpgradeState:
    """What :func:`upgrade_detector` remembers about ``model``. Raises ValueError if it was not upgraded."""
    if not is_upgraded(model):
        inside = [path for path, module in model.named_modules() if hasattr(module, STATE_ATTRIBUTE)]
        hint = f" Its part '{inside[0]}' was: give model.get_submodule('{inside[0]}')." if inside else ""
        raise ValueError(f"This {type(model).__name__} was not upgraded.{hint}")
    return getattr(model, STATE_ATTRIBUTE)


@torch.no_grad()
def copy_tensors(model: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Copy ``tensors`` into those of ``model`` that have their names, in place."""
    state = model.state_dict()
    for name, x in tensors.items():
        state[name].copy_(x)


def _find_sites(scope: SearchScope) -> tuple[str, FinderResult, tuple[str, ...]]:
    """The first door with something behind it, the view, and why those before it did not open."""
    closed: list[str] = []
    for door, look in FINDERS.items():
        try:
            view = look(scope)
        except ValueError as error:
            before = f" (Looked at before: {'; '.join(closed)}.)" if closed else ""
            raise ValueError(f"{error}{before}") from error
        if view.sites:
            return door, view, tuple(closed)
        closed.append(f"{door}: {view.reason}")
    raise ValueError(f"Nothing was found that doubles a map. Looked at: {'; '.join(closed)}.")


def _adapters_for_site(site: UpgradeSite, name: str, options: dict[str, object]) -> list[nn.Module | None]:
    """An addition for each step of the site, or None; with the type and device of what is around it."""
    made = build_adapters(name, [step.channels if step.is_2x else None for step in site.steps], options)
    for part in made:
        if part is not None:
            part.to(site.like.device, site.like.dtype)
    return made


def _restore_module(module: nn.Module) -> None:
    if isinstance(module, (UpgradedFPN, UpgradedUpsample, UpgradedNeck, EFPNBackbone, EFPNRoIAlign)):
        module.restore()
    else:
        module.interpolators = nn.ModuleList(dict.fromkeys(i.fixed for i in module.interpolators))  # type: ignore[union-attr]


def _check_not_upgraded(model: nn.Module) -> None:
    upgraded = [path for path, module in model.named_modules() if isinstance(module, UPGRADED_TYPES)]
    if upgraded:
        raise ValueError(
            f"This {type(model).__name__} is upgraded already, at {', '.join(repr(path) for path in upgraded)}. "
            "To try another interpolator, downgrade it first."
        )


def _check_not_present(result: FinderResult, name: str) -> None:
    if {step.mode for site in result.sites for step in site.steps} == {name}:
        raise ValueError(f"{name} interpolation is what is there already; choose a learned one, such as 'afi'.")


def _check_restorable(model: nn.Module, upgrade_state: UpgradeState) -> None:
    state = model.state_dict()
    lost = [n for n, x in upgrade_state.original_weights.tensors.items() if n not in state or state[n].shape != x.shape]
    if lost:
        raise ValueError(
            f"{len(lost)} tensors of the network before the upgrade have no place in it any more ({', '.join(lost[:4])}…): "
            "parts of it were exchanged since. Put the old parts back first; the next time, exchange parts before the upgrade."
        )
