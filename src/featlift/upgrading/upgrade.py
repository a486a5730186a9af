"""Add learned interpolators or an extended level to an existing network, and remove them again."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from featlift.upgrading.adapters import build_adapters
from featlift.upgrading.extended_level import install_level, level_report_row
from featlift.upgrading.extended_modules import EFPNBackbone, EFPNRoIAlign
from featlift.upgrading.finders import FINDERS
from featlift.upgrading.modules import UpgradedFixed, UpgradedFPN, UpgradedNeck, UpgradedUpsample
from featlift.upgrading.report import UpgradeReport, site_rows
from featlift.upgrading.sites import FinderResult, SearchScope, UpgradeSite

UPGRADED_TYPES = (UpgradedFPN, UpgradedFixed, UpgradedUpsample, UpgradedNeck, EFPNBackbone, EFPNRoIAlign)
STATE_ATTRIBUTE = "_upgrade_state"
REPORT_IMAGE_SIZE = (256, 256)
"""(H, W) in pixels for which the cost of an extended level is reported."""


class OriginalWeights:
    """CPU copy of all tensors of the state dict before the upgrade; shared by copies of the network."""

    def __init__(self, model: nn.Module):
        state = model.state_dict()
        self.tensors = {name: x.detach().to("cpu", copy=True) for name, x in state.items() if isinstance(x, Tensor)}

    def __deepcopy__(self, memo: dict[int, Any]) -> "OriginalWeights":
        return self


@dataclass
class UpgradeState:
    """State of an upgraded network.

    Attributes:
        name: Interpolator or transfer, as passed to :func:`upgrade`.
        options: Its options.
        neck: Searched submodule.
        sites: (dotted name, number of steps) of each upgraded module.
        original_weights: Tensors before the upgrade.
        level: Extended level, or empty.
    """

    name: str
    options: dict[str, object]
    neck: str
    sites: tuple[tuple[str, int], ...]
    original_weights: OriginalWeights
    level: str = ""


def upgrade(
    model: nn.Module, name: str = "", neck: str = "", example_inputs: Any = None, level: str = "", **options: object
) -> UpgradeReport:
    """Add a learned adapter to every 2x upsampling step of the pyramid of ``model``, in place.

    Adapters are added to the existing interpolation and start at zero: outputs are bit-identical until the adapters are trained. They have
    the dtype and device of their surroundings. Build the optimizer afterwards, or add :func:`added_parameters` to it.

    The first finder with a match is used: torchvision's ``FeaturePyramidNetwork``; FeatLift pyramids with fixed interpolators;
    ``nn.Upsample(scale_factor=2)``; calls of ``torch.nn.functional.interpolate`` that upsample by 2 in the ``forward`` of one module.

    With ``level="p2x"``, a torchvision Faster or Mask R-CNN gets EFPN's extended level instead. Outputs are identical until the level is
    enabled by :func:`~featlift.upgrading.extended_level.enable_level`; train it before
    (:func:`~featlift.upgrading.extended_level.level_distillation_loss`).

    Args:
        model: Network with such upsampling steps. A copy of its current weights is kept on the CPU for :func:`downgrade`.
        name: Name of an interpolator (``featlift.interpolators.INTERPOLATORS``), default "afi"; with ``level``, name of a transfer
            (``featlift.pyramids.texture_transfers.TEXTURE_TRANSFERS``), default "ftt".
        neck: Dotted name of the submodule to search; empty searches the whole model.
        example_inputs: Argument of the model, or a tuple of arguments, to trace its maps once; None is a black image
            ``[1, 3, 256, 256]``.
        level: "p2x" adds this extended level; empty upgrades interpolations.
        options: Options of the interpolator, except ``init`` and ``shortcut``, which the upgrade sets itself; or options of the transfer,
            and ``tile_size``: side of the tiles in which the level is computed, in stride-8 cells (0: whole map).

    Raises:
        ValueError: If no 2x upsampling is found, the network is already upgraded, or a name or option is unknown.
    """
    _check_not_upgraded(model)
    if level:
        return _upgrade_level(model, level, name or "ftt", options)
    name = name or "afi"
    if neck not in dict(model.named_modules()):
        raise ValueError(
            f"{type(model).__name__} has no module '{neck}'; list the names with [n for n, _ in model.named_modules()]."
        )
    finder, result, failed_finders = _find_sites(SearchScope(model, neck, example_inputs))
    _check_not_present(result, name)
    adapters = [_adapters_for_site(site, name, options) for site in result.sites]
    originals = OriginalWeights(model)
    for site, site_adapters in zip(result.sites, adapters, strict=True):
        site.install(site_adapters)
    sites = tuple((site.path, len(site.steps)) for site in result.sites)
    setattr(model, STATE_ATTRIBUTE, UpgradeState(name, options, neck, sites, originals))
    rows = [
        row
        for site, site_adapters in zip(result.sites, adapters, strict=True)
        for row in site_rows(site, site_adapters, name, result.image_size)
    ]
    return UpgradeReport(finder, tuple(rows), result.image_size, result.skipped, failed_finders)


def _upgrade_level(model: nn.Module, level: str, name: str, options: dict[str, object]) -> UpgradeReport:
    originals = OriginalWeights(model)
    sites = tuple((path, 1) for path in install_level(model, level, name, options))
    setattr(model, STATE_ATTRIBUTE, UpgradeState(name, options, "", sites, originals, level))
    return UpgradeReport(
        "torchvision R-CNN", (level_report_row(model, level, name, REPORT_IMAGE_SIZE),), REPORT_IMAGE_SIZE, (), ()
    )


def downgrade(model: nn.Module) -> None:
    """Restore an upgraded network in place: the original modules, names and weights. Training since the upgrade is discarded.

    Raises:
        ValueError: If the network is not upgraded, or modules were replaced since the upgrade.
    """
    state = get_upgrade_state(model)
    _check_restorable(model, state)
    for path, _ in state.sites:
        _restore_module(model.get_submodule(path))
    delattr(model, STATE_ATTRIBUTE)
    copy_tensors(model, state.original_weights.tensors)


def added_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return the parameters added by the upgrade, by name. Raises ValueError if ``model`` is not upgraded."""
    originals = get_upgrade_state(model).original_weights.tensors
    return {name: p for name, p in model.named_parameters() if name not in originals}


def is_upgraded(model: nn.Module) -> bool:
    """Return whether :func:`upgrade` was called on ``model`` itself, not on a submodule."""
    return hasattr(model, STATE_ATTRIBUTE)


def get_upgrade_state(model: nn.Module) -> UpgradeState:
    """Return the upgrade state of ``model``. Raises ValueError if it is not upgraded."""
    if not is_upgraded(model):
        paths = [path for path, module in model.named_modules() if hasattr(module, STATE_ATTRIBUTE)]
        hint = f" Its submodule '{paths[0]}' is: pass model.get_submodule('{paths[0]}')." if paths else ""
        raise ValueError(f"This {type(model).__name__} is not upgraded.{hint}")
    return getattr(model, STATE_ATTRIBUTE)


@torch.no_grad()
def copy_tensors(model: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Copy ``tensors`` into the tensors of the same names in ``model``, in place."""
    state = model.state_dict()
    for name, x in tensors.items():
        state[name].copy_(x)


def _find_sites(scope: SearchScope) -> tuple[str, FinderResult, tuple[str, ...]]:
    """Return the name of the first finder with a match, its result, and the finders without a match with their reasons."""
    failed: list[str] = []
    for name, find in FINDERS.items():
        try:
            result = find(scope)
        except ValueError as error:
            tried = f" (Tried before: {'; '.join(failed)}.)" if failed else ""
            raise ValueError(f"{error}{tried}") from error
        if result.sites:
            return name, result, tuple(failed)
        failed.append(f"{name}: {result.reason}")
    raise ValueError(f"Found nothing that upsamples a map by 2. Tried: {'; '.join(failed)}.")


def _adapters_for_site(site: UpgradeSite, name: str, options: dict[str, object]) -> list[nn.Module | None]:
    """Build an adapter, or None, for each step of the site, with the dtype and device of its surroundings."""
    adapters = build_adapters(name, [step.channels if step.is_2x else None for step in site.steps], options)
    for adapter in adapters:
        if adapter is not None:
            adapter.to(site.like.device, site.like.dtype)
    return adapters


def _restore_module(module: nn.Module) -> None:
    if isinstance(module, (UpgradedFPN, UpgradedUpsample, UpgradedNeck, EFPNBackbone, EFPNRoIAlign)):
        module.restore()
    else:
        module.interpolators = nn.ModuleList(dict.fromkeys(i.fixed for i in module.interpolators))  # type: ignore[union-attr]


def _check_not_upgraded(model: nn.Module) -> None:
    upgraded = [path for path, module in model.named_modules() if isinstance(module, UPGRADED_TYPES)]
    if upgraded:
        raise ValueError(
            f"This {type(model).__name__} is already upgraded at {', '.join(repr(path) for path in upgraded)}. "
            "To try another interpolator, downgrade it first."
        )


def _check_not_present(result: FinderResult, name: str) -> None:
    if {step.mode for site in result.sites for step in site.steps} == {name}:
        raise ValueError(f"The model already uses {name} interpolation; choose a learned interpolator such as 'afi'.")


def _check_restorable(model: nn.Module, upgrade_state: UpgradeState) -> None:
    state = model.state_dict()
    originals = upgrade_state.original_weights.tensors
    missing = [n for n, x in originals.items() if n not in state or state[n].shape != x.shape]
    if missing:
        raise ValueError(
            f"{len(missing)} original tensors no longer match the network ({', '.join(missing[:4])}…): modules were "
            "replaced after the upgrade. Restore the original modules first; replace modules before an upgrade."
        )
