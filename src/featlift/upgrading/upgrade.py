"""Add learned interpolators or an extended level to an existing network, and remove them again."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from featlift.upgrading.adapters import build_adapters
from featlift.upgrading.example_inputs import encode_example
from featlift.upgrading.extended_detector import ExtendedDetector
from featlift.upgrading.extended_level import DEFAULT_NAMES, install_level, level_report_row
from featlift.upgrading.extended_modules import EFPNBackbone, EFPNRoIAlign
from featlift.upgrading.finders import FINDERS
from featlift.upgrading.modules import UpgradedFixed, UpgradedFPN, UpgradedNeck, UpgradedUpsample
from featlift.upgrading.original_weights import OriginalWeights
from featlift.upgrading.report import UpgradeReport, site_rows
from featlift.upgrading.sites import FinderResult, SearchScope, UpgradeSite
from featlift.upgrading.state import STATE_ATTRIBUTE, UpgradeState, copy_tensors, get_upgrade_state
from featlift.upgrading.wrappers import unwrap_module

LEVEL_TYPES = (EFPNBackbone, EFPNRoIAlign, ExtendedDetector)
UPGRADED_TYPES = (UpgradedFPN, UpgradedFixed, UpgradedUpsample, UpgradedNeck, *LEVEL_TYPES)
REPORT_IMAGE_SIZE = (256, 256)
"""(H, W) in pixels for which the cost of an extended level is reported."""


def upgrade(
    model: nn.Module,
    name: str = "",
    neck: str = "",
    example_inputs: Any = None,
    level: str = "",
    keep_weights: bool = True,
    **options: object,
) -> UpgradeReport:
    """Add a learned adapter to every 2x upsampling step of the pyramid of ``model``, in place.

    Adapters are added to the existing interpolation and start at zero: outputs are bit-identical until the adapters are trained. They have
    the dtype and device of their surroundings. Build the optimizer afterwards, or add :func:`added_parameters` to it.

    The first finder with a match is used: torchvision's ``FeaturePyramidNetwork``; FeatLift pyramids with fixed interpolators;
    ``nn.Upsample(scale_factor=2)``; calls of ``torch.nn.functional.interpolate`` that upsample by 2 in the ``forward`` of one module.

    With ``level="p2x"``, a torchvision Faster or Mask R-CNN gets EFPN's extended level instead; with ``level="p3x"``, a one-stage
    detector or DETR gets a level at half the stride of its finest head. Outputs are identical until the level is enabled by
    :func:`~featlift.upgrading.extended_level.enable_level`; train it before
    (:func:`~featlift.upgrading.extended_level.level_distillation_loss`).

    Args:
        model: Network with such upsampling steps, also in ``DataParallel``, ``torch.compile`` or ``AveragedModel``.
        name: Name of an interpolator (``featlift.interpolators.INTERPOLATORS``), default "afi"; with "p2x", name of a transfer
            (``featlift.pyramids.texture_transfers.TEXTURE_TRANSFERS``), default "ftt"; with "p3x", the interpolator that is corrected,
            default "nearest".
        neck: Dotted name of the submodule to search; empty searches the whole model.
        example_inputs: Argument of the model, or a tuple of arguments, to trace its maps once; None is a black image
            ``[1, 3, 256, 256]``.
        level: "p2x" or "p3x" adds this extended level; empty upgrades interpolations.
        keep_weights: Keep a copy of the current weights on the CPU, for :func:`downgrade`; it is never pickled with the model.
        options: Options of the interpolator, except ``init`` and ``shortcut``, which the upgrade sets itself; or options of the transfer,
            and ``tile_size``: side of the tiles in which p2x is computed, in stride-8 cells (0: whole map); or, with "p3x", ``width`` and
            ``num_blocks`` of the :class:`~featlift.upgrading.extended_upsampler.GuidedUpsampler`.

    Raises:
        ValueError: If no 2x upsampling is found, the network is already upgraded or distributed, or a name or option is unknown.
    """
    model = _check_not_upgraded(model)
    if level:
        return _upgrade_level(
            model, level, name or DEFAULT_NAMES.get(level, ""), OriginalWeights(model, keep_weights), options
        )
    name = name or "afi"
    if neck not in dict(model.named_modules()):
        raise ValueError(
            f"{type(model).__name__} has no module '{neck}'; list the names with [n for n, _ in model.named_modules()]."
        )
    finder, result, failed_finders = _find_sites(SearchScope(model, neck, example_inputs))
    _check_not_present(result, name)
    adapters = [_adapters_for_site(site, name, options) for site in result.sites]
    originals = OriginalWeights(model, keep_weights)
    for site, site_adapters in zip(result.sites, adapters, strict=True):
        site.install(site_adapters)
    sites = tuple((site.path, len(site.steps)) for site in result.sites)
    example = encode_example(example_inputs)
    setattr(model, STATE_ATTRIBUTE, UpgradeState(name, options, neck, sites, originals, example=example))
    rows = [
        row
        for site, site_adapters in zip(result.sites, adapters, strict=True)
        for row in site_rows(site, site_adapters, name, result.image_size)
    ]
    return UpgradeReport(finder, tuple(rows), result.image_size, result.skipped, failed_finders)


def _upgrade_level(
    model: nn.Module, level: str, name: str, originals: OriginalWeights, options: dict[str, object]
) -> UpgradeReport:
    sites = tuple((path, 1) for path in install_level(model, level, name, options))
    setattr(model, STATE_ATTRIBUTE, UpgradeState(name, options, "", sites, originals, level))
    return UpgradeReport(
        "extended level", (level_report_row(model, level, name, REPORT_IMAGE_SIZE),), REPORT_IMAGE_SIZE, (), ()
    )


def downgrade(model: nn.Module, weights: Mapping[str, Tensor] | None = None) -> None:
    """Restore an upgraded network in place: the original modules, names and weights. Training since the upgrade is discarded.

    Args:
        model: Upgraded network.
        weights: State dict of the original network; None uses the copy that :func:`upgrade` kept. A network read from a pickle has no
            copy. ``model.state_dict()`` keeps the trained values of the original tensors.

    Raises:
        ValueError: If the network is not upgraded, modules were replaced since the upgrade, or ``weights`` are missing or do not fit.
    """
    model = unwrap_module(model)
    state = get_upgrade_state(model)
    tensors = state.original_weights.resolve(weights)
    _check_restorable(model, tensors)
    for path, _ in state.sites:
        _restore_module(model.get_submodule(path))
    delattr(model, STATE_ATTRIBUTE)
    copy_tensors(model, tensors)


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
    if isinstance(module, (UpgradedFPN, UpgradedUpsample, UpgradedNeck, *LEVEL_TYPES)):
        module.restore()
    else:
        module.interpolators = nn.ModuleList(dict.fromkeys(i.fixed for i in module.interpolators))  # type: ignore[union-attr]


def _check_not_upgraded(wrapped: nn.Module) -> nn.Module:
    """Return the network inside ``wrapped``, which must be plain."""
    if isinstance(wrapped, DistributedDataParallel):
        raise ValueError(
            "DistributedDataParallel does not synchronize parameters that are added later: upgrade the network first, then wrap it."
        )
    model = unwrap_module(wrapped)
    upgraded = [path for path, module in model.named_modules() if isinstance(module, UPGRADED_TYPES)]
    if upgraded:
        raise ValueError(
            f"This {type(model).__name__} is already upgraded at {', '.join(repr(path) for path in upgraded)}. "
            "To try another interpolator, downgrade it first."
        )
    return model


def _check_not_present(result: FinderResult, name: str) -> None:
    if {step.mode for site in result.sites for step in site.steps} == {name}:
        raise ValueError(f"The model already uses {name} interpolation; choose a learned interpolator such as 'afi'.")


def _check_restorable(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    state = model.state_dict()
    missing = [n for n, x in tensors.items() if n not in state or state[n].shape != x.shape]
    if missing:
        raise ValueError(
            f"{len(missing)} original tensors no longer match the network ({', '.join(missing[:4])}…): modules were "
            "replaced after the upgrade. Restore the original modules first; replace modules before an upgrade."
        )
