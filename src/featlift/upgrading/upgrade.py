"""Add learned interpolators or an extended level to an existing network, and remove them again."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from featlift.upgrading.example_inputs import encode_example
from featlift.upgrading.extended_detector import ExtendedDetector
from featlift.upgrading.extended_level import DEFAULT_NAMES, install_level, level_report_row
from featlift.upgrading.extended_modules import EFPNBackbone, EFPNRoIAlign
from featlift.upgrading.installation import install_interpolators
from featlift.upgrading.modules import UpgradedFixed, UpgradedFPN, UpgradedNeck, UpgradedUpsample, restore_site
from featlift.upgrading.original_weights import OriginalWeights
from featlift.upgrading.report import UpgradeReport
from featlift.upgrading.state import UpgradeState, attach_state, copy_tensors, detach_state, get_upgrade_state
from featlift.upgrading.wrappers import unwrap_module

LEVEL_TYPES = (EFPNBackbone, EFPNRoIAlign, ExtendedDetector)
UPGRADED_TYPES = (UpgradedFPN, UpgradedFixed, UpgradedUpsample, UpgradedNeck, *LEVEL_TYPES)
REPORT_IMAGE_SIZE = (256, 256)
"""(H, W) in pixels for which the cost of an extended level is reported."""


def upgrade(
    model: nn.Module,
    name: str = "",
    neck: str | Sequence[str] = "",
    example_inputs: Any = None,
    level: str = "",
    keep_weights: bool = True,
    **options: object,
) -> UpgradeReport:
    """Add a learned adapter to every step of ``model`` that upsamples a feature map by 2, in place.

    Adapters are added to the existing interpolation and start at zero: outputs are bit-identical until the adapters are trained. They have
    the dtype and device of their surroundings. Build the optimizer afterwards, or add :func:`added_parameters` to it.

    Every call of ``torch.nn.functional.interpolate`` in one run of the model is looked at, made by ``nn.Upsample``, by torchvision's
    ``FeaturePyramidNetwork``, or in any ``forward``. Resized images, position embeddings, pooled maps, masks and logits are left as
    they are and listed in the report. Then the upgraded model runs once, and must give the same outputs.

    With ``level="p2x"``, a torchvision Faster or Mask R-CNN gets EFPN's extended level instead; with ``level="p3x"``, a one-stage
    detector or DETR gets a level at half the stride of its finest head. Outputs are identical until the level is enabled by
    :func:`~featlift.upgrading.extended_level.enable_level`; train it before
    (:func:`~featlift.upgrading.extended_level.level_distillation_loss`).

    Args:
        model: Network with such upsampling steps, also in ``DataParallel``, ``torch.compile`` or ``AveragedModel``.
        name: Name of an interpolator (``featlift.interpolators.INTERPOLATORS``), default "afi"; with "p2x", name of a transfer
            (``featlift.pyramids.texture_transfers.TEXTURE_TRANSFERS``), default "ftt"; with "p3x", the interpolator that is corrected,
            default "nearest".
        neck: Dotted name of the submodule to upgrade, or several names; empty upgrades the whole model.
        example_inputs: Inputs for one run: an argument, a tuple of arguments, or a dictionary of keyword arguments, such as the output of
            a Hugging Face processor. None is an image of noise ``[1, 3, 256, 256]``.
        level: "p2x" or "p3x" adds this extended level; empty upgrades interpolations.
        keep_weights: Keep a copy of the current weights on the CPU, for :func:`downgrade`; it is never pickled with the model.
        options: Options of the interpolator, except ``init`` and ``shortcut``, which the upgrade sets itself; or options of the transfer,
            and ``tile_size``: side of the tiles in which p2x is computed, in stride-8 cells (0: whole map); or, with "p3x", ``width`` and
            ``num_blocks`` of the :class:`~featlift.upgrading.extended_upsampler.GuidedUpsampler`.

    Raises:
        ValueError: If the network fails on the inputs, upsamples no feature map by 2, would change its outputs, is already upgraded or
            distributed, or a name or option is unknown. The network stays as it was.
    """
    model = _check_not_upgraded(model)
    if level:
        return _upgrade_level(
            model, level, name or DEFAULT_NAMES.get(level, ""), OriginalWeights(model, keep_weights), options
        )
    name = name or "afi"
    necks = _split_necks(model, neck)
    originals, example = OriginalWeights(model, keep_weights), encode_example(example_inputs)
    report, sites = install_interpolators(model, name, necks, example_inputs, options)
    attach_state(model, UpgradeState(name, options, ",".join(necks), sites, originals, example=example))
    return report


def _upgrade_level(
    model: nn.Module, level: str, name: str, originals: OriginalWeights, options: dict[str, object]
) -> UpgradeReport:
    sites = tuple((path, 1) for path in install_level(model, level, name, options))
    attach_state(model, UpgradeState(name, options, "", sites, originals, level))
    return UpgradeReport(
        "extended level", (level_report_row(model, level, name, REPORT_IMAGE_SIZE),), REPORT_IMAGE_SIZE, ()
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
    detach_state(model)
    copy_tensors(model, tensors)


def _split_necks(model: nn.Module, neck: str | Sequence[str]) -> list[str]:
    """Return the names in ``neck``, one or several (a sequence, or separated by commas)."""
    necks = [name.strip() for name in (neck.split(",") if isinstance(neck, str) else neck)]
    names = dict(model.named_modules())
    for name in necks:
        if name not in names:
            raise ValueError(
                f"{type(model).__name__} has no module '{name}'; list the names with [n for n, _ in model.named_modules()]."
            )
    return [name for name in necks if name]


def _restore_module(module: nn.Module) -> None:
    if isinstance(module, LEVEL_TYPES):
        module.restore()
    else:
        restore_site(module)


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


def _check_restorable(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    state = model.state_dict()
    missing = [n for n, x in tensors.items() if n not in state or state[n].shape != x.shape]
    if missing:
        raise ValueError(
            f"{len(missing)} original tensors no longer match the network ({', '.join(missing[:4])}…): modules were "
            "replaced after the upgrade. Restore the original modules first; replace modules before an upgrade."
        )
