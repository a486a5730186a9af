"""Add an extended level for small objects to an existing detector, trained without labels from the detector on larger images.

``p2x`` (stride 2): EFPN's level of torchvision's two-stage detectors, from which small RoIs are pooled (``extended_rcnn``).
``p3x`` (stride 4): a level of one-stage detectors and DETRs, made of their own frozen parts, that shares the finest head
(``extended_family``). Outputs stay bit-identical until :func:`enable_level` is called.
"""

from typing import Any

from torch import Tensor, nn

from featlift.detectors.efpn import TT100K_SMALL_ROI_SIZE
from featlift.features import level_stride
from featlift.registry import check_choice
from featlift.upgrading.extended_cost import level_cost
from featlift.upgrading.extended_detector import ExtendedDetector, install
from featlift.upgrading.extended_families import find_family
from featlift.upgrading.extended_losses import shared_head_losses
from featlift.upgrading.extended_modules import EFPNBackbone
from featlift.upgrading.extended_rcnn import (
    get_pooled_level,
    install_pooled_level,
    pooled_level_loss,
    pooled_level_row,
)
from featlift.upgrading.report import UpgradeRow

DEFAULT_NAMES = {"p2x": "ftt", "p3x": "nearest"}
"""Level → what computes it by default: a texture transfer, or the interpolator that is corrected."""
DEFAULT_MAX_SIZES = {"p2x": float(TT100K_SMALL_ROI_SIZE), "p3x": 32.0}
"""Level → size limit of its objects, px of the network's input."""


def install_level(model: nn.Module, level: str, name: str, options: dict[str, Any]) -> tuple[str, ...]:
    """Add ``level`` to ``model`` in place; returns the dotted names of changed modules, "" for the model itself.

    Args:
        model: Detector.
        level: "p2x" or "p3x".
        name: Texture transfer (p2x) or interpolator (p3x).
        options: Those of the transfer and ``tile_size`` (p2x); ``width`` and ``num_blocks`` of the
            :class:`~featlift.upgrading.extended_upsampler.GuidedUpsampler` (p3x).

    Raises:
        ValueError: For an unknown level, name or option, or an unsupported detector.
    """
    check_choice(level, DEFAULT_NAMES, "extended level")
    if level == "p2x":
        return install_pooled_level(model, name, options)
    install(model, find_family(model), name, options)
    return ("",)


def level_report_row(model: nn.Module, level: str, name: str, image_size: tuple[int, int]) -> UpgradeRow:
    """Return the report row of the level: parameters, and multiply-adds of the whole level for an image of (H, W) pixels."""
    if level == "p2x":
        return pooled_level_row(model, name, image_size)
    extended = get_extended_detector(model)
    cost = level_cost(extended, image_size)
    return UpgradeRow(
        "(model)",
        level,
        level_stride(level),
        extended.added_level.channels,
        "–",
        f"+ {name}",
        cost.parameters,
        cost.gmacs["level"],
    )


def enable_level(model: nn.Module, max_size: float | None = None, min_score: float = 0.0) -> None:
    """Use the extended level of ``model`` for objects below ``max_size``; 0 disables it.

    Args:
        model: Detector with an extended level.
        max_size: √(w·h) in pixels of the network's input (after its resizing). p2x: RoIs below it are pooled from the level; the default of
            56 extends torchvision's level assignment by one level. p3x: predictions of the level below it are added; default 32.
        min_score: p3x of detectors other than DETRs: compute the level only in windows (``extended_windows``) around boxes of the detector
            itself below 1.5 ``max_size`` with at least this score, which takes a fraction of the time; 0 computes it everywhere.

    Raises:
        ValueError: If ``model`` has no extended level, ``max_size`` is negative, or ``min_score`` is not in 0…1 or not possible.
    """
    is_shared = isinstance(model, ExtendedDetector)
    check_windows(model, min_score)
    limit = DEFAULT_MAX_SIZES["p3x" if is_shared else "p2x"] if max_size is None else float(max_size)
    if limit < 0:
        raise ValueError(f"max_size is {max_size}; use a size in pixels, or 0 to disable the extended level.")
    if is_shared:
        model.level_max_size, model.level_min_score = limit, min_score
    else:
        _get_pooling(model).small_roi_size = limit


def check_windows(model: nn.Module, min_score: float) -> None:
    """Raise ValueError if ``model`` has no extended level, or if it cannot be enabled with ``min_score`` (see :func:`enable_level`)."""
    if not isinstance(model, ExtendedDetector):
        _get_pooling(model)
    if not 0 <= min_score < 1:
        raise ValueError(f"min_score is {min_score}; use a score from 0 (the level is computed everywhere) to below 1.")
    if min_score and not getattr(model, "has_windows", False):
        raise ValueError(
            f"The extended level of this {type(model).__name__} cannot be computed in windows: leave out min_score."
        )


def get_small_roi_size(model: nn.Module) -> float:
    """Return the size limit of the extended level in pixels; 0 if disabled. Raises ValueError if ``model`` has no such level."""
    return model.level_max_size if isinstance(model, ExtendedDetector) else _get_pooling(model).small_roi_size


def get_level_min_score(model: nn.Module) -> float:
    """Return the minimum score of boxes around which the level is computed; 0 if it is computed everywhere, or not at all."""
    return model.level_min_score if isinstance(model, ExtendedDetector) else 0.0


def disable_windows(model: nn.Module) -> None:
    """Compute the extended levels in ``model`` everywhere, as for an export: windows depend on the image."""
    for module in model.modules():
        if isinstance(module, ExtendedDetector):
            module.level_min_score = 0.0


def level_distillation_loss(model: nn.Module, images: Tensor) -> dict[str, Tensor]:
    """Compute the distillation losses of the extended level. Only the level receives gradients; batch norm statistics do not change.

    p2x (EFPN, Sec. III-C, the global terms of Eq. (5)): the teacher is the model on ``images``, the student its level on their 2x2
    averages; use twice the image size of inference, with sides that are multiples of 64.
    p3x: the teacher is the model on ``images`` enlarged by 2; use the image size of inference.

    Args:
        model: Detector with an extended level, in evaluation mode.
        images: ``[B, 3, H, W]``, normalized for the model.

    Returns:
        Scalars by name; their sum is the loss.

    Raises:
        ValueError: If the model has no extended level, is in training mode, or the size does not suit.
    """
    if not isinstance(model, ExtendedDetector):
        _get_pooling(model)
        return pooled_level_loss(model, images)
    if model.training:
        raise ValueError("level_distillation_loss needs the model in evaluation mode: call model.eval() first.")
    return shared_head_losses(model, images)


def get_extended_detector(model: nn.Module) -> ExtendedDetector:
    """Return ``model``, which has the level p3x. Raises ValueError if it has not."""
    if not isinstance(model, ExtendedDetector):
        raise ValueError(
            f"This {type(model).__name__} has no extended level p3x; add it with featlift.upgrade(model, level='p3x')."
        )
    return model


def _get_pooling(model: nn.Module) -> Any:
    if not isinstance(getattr(model, "backbone", None), EFPNBackbone):
        raise ValueError(
            f"This {type(model).__name__} has no extended level; add it with featlift.upgrade(model, level='p2x'), or 'p3x' for one-stage "
            "detectors and DETRs."
        )
    return get_pooled_level(model)[1]
