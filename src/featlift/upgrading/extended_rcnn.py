"""EFPN's extended level p2x (Deng et al., IEEE TMM 2021) in an existing torchvision Faster or Mask R-CNN, trained without labels.

Small RoIs are pooled from p2x (stride 2) instead of "0" (stride 4) and classified by the existing head, as in the authors' release on
COCO. :func:`pooled_level_loss` trains p2x of an image to match the detector's own "0" of the image at twice the size.
"""

import copy
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.ops import MultiScaleRoIAlign

from featlift.features import Features
from featlift.losses import pyramid_l1
from featlift.profiling import count_macs, count_parameters
from featlift.pyramids.efpn import ExtendedLevel, init_extended_level
from featlift.pyramids.texture_transfers import texture_transfer
from featlift.resolution import cross_resolution
from featlift.upgrading.extended_modules import FINEST_LEVEL, EFPNBackbone, EFPNRoIAlign, ExtendableFeatures
from featlift.upgrading.report import UpgradeRow


def install_pooled_level(model: nn.Module, transfer_name: str, options: dict[str, Any]) -> tuple[str, ...]:
    """Add p2x with the texture transfer ``transfer_name`` to ``model`` in place; returns the dotted names of changed modules.

    ``options`` are those of the transfer, and ``tile_size``: side of the tiles in which p2x is computed, in stride-8 cells (0: whole map).

    Raises:
        ValueError: For an unknown transfer, or an unsupported detector.
    """
    backbone, pooling = _get_extendable_modules(model)
    reference = next(backbone.fpn.layer_blocks.parameters())
    lateral, channels = backbone.fpn.inner_blocks[0], backbone.out_channels
    c2_channels = next(m.in_channels for m in lateral.modules() if isinstance(m, nn.Conv2d))
    transfer_options = {option: value for option, value in options.items() if option != "tile_size"}
    transfer = texture_transfer(transfer_name, channels, **transfer_options)
    extension = ExtendedLevel(c2_channels, channels, transfer)
    init_extended_level(extension, lateral, backbone.fpn.layer_blocks[0])
    EFPNBackbone.upgrade(backbone, extension.to(reference.device, reference.dtype))
    EFPNRoIAlign.upgrade(pooling, backbone, options.get("tile_size", 0))  # type: ignore[arg-type]
    return "backbone", "roi_heads.box_roi_pool"


def pooled_level_row(model: nn.Module, transfer_name: str, image_size: tuple[int, int]) -> UpgradeRow:
    """Return the report row of p2x: parameters, and multiply-adds of the dense p2x for an image of (H, W) pixels."""
    backbone, _ = get_pooled_level(model)
    stage, added = (copy.deepcopy(m).to("meta").eval() for m in (backbone.body["layer1"], backbone.added))
    stem_channels = next(m.in_channels for m in stage.modules() if isinstance(m, nn.Conv2d))
    strides = {"inner3": (8, backbone.out_channels), "inner2": (4, backbone.out_channels), "c1": (2, stem_channels)}
    maps = {
        key: torch.zeros(1, channels, *(side // stride for side in image_size), device="meta")
        for key, (stride, channels) in strides.items()
    }
    gmacs = count_macs(lambda: added(maps["inner3"], maps["inner2"], stage(maps["c1"]))) / 1e9
    return UpgradeRow(
        "backbone", "p2x", 2, backbone.out_channels, "–", f"+ {transfer_name}", count_parameters(added), gmacs
    )


def pooled_level_loss(model: nn.Module, images: Tensor) -> dict[str, Tensor]:
    """Compute the distillation loss of the extended level (EFPN, Sec. III-C, the global terms of Eq. (5)).

    The teacher is the model on ``images``; the student is its extended level on the 2x2 averages of ``images``. Only the extended level
    receives gradients. The model stays in evaluation mode, so batch norm statistics do not change.

    Args:
        model: Detector with an extended level, in evaluation mode.
        images: ``[B, 3, H, W]``, normalized for the model; H and W are multiples of 64. Use twice the image size of inference.

    Returns:
        ``{"global": scalar}``.

    Raises:
        ValueError: If the model has no extended level, is in training mode, or H or W is no multiple of 64.
    """
    if model.training:
        raise ValueError("The distillation loss needs the model in evaluation mode: call model.eval() first.")
    if any(side % 64 for side in images.shape[-2:]):
        raise ValueError(
            f"images has shape {tuple(images.shape)}; height and width must be multiples of 64 to align the maps."
        )
    backbone, _ = get_pooled_level(model)
    student, teacher = cross_resolution(
        teacher=lambda large: level_teacher_maps(backbone(large)),
        student=lambda small: backbone.added(**_compute_extension_inputs(backbone, small)),
        image=images,
        downscale=lambda large: nnf.avg_pool2d(large, 2),
    )
    return {"global": pyramid_l1(student, teacher)}


def level_teacher_maps(features: ExtendableFeatures) -> Features:
    """Return the teacher's maps under the names of the student's levels, p3x and p2x."""
    return {"p3x": features.extension_inputs["inner3"], "p2x": features[FINEST_LEVEL]}


@torch.no_grad()
def _compute_extension_inputs(backbone: EFPNBackbone, image: Tensor) -> Features:
    """Compute inner3, inner2 and c2x of ``image`` without a graph."""
    inputs = backbone(image).extension_inputs
    return {"inner3": inputs["inner3"], "inner2": inputs["inner2"], "c2x": backbone.body["layer1"](inputs["c1"])}


def get_pooled_level(model: nn.Module) -> tuple[EFPNBackbone, EFPNRoIAlign]:
    """Return backbone and box pooling of a detector with p2x. Raises ValueError if ``model`` has no such level."""
    backbone, pooling = (
        getattr(model, "backbone", None),
        getattr(getattr(model, "roi_heads", None), "box_roi_pool", None),
    )
    if not isinstance(backbone, EFPNBackbone) or not isinstance(pooling, EFPNRoIAlign):
        raise ValueError(
            f"This {type(model).__name__} has no extended level; add it with featlift.upgrade(model, level='p2x')."
        )
    return backbone, pooling


def _get_extendable_modules(model: nn.Module) -> tuple[BackboneWithFPN, MultiScaleRoIAlign]:
    """Return the backbone and the box pooling of a torchvision R-CNN with a ResNet-FPN that starts at stride 4."""
    backbone, heads = getattr(model, "backbone", None), getattr(model, "roi_heads", None)
    if type(backbone) is not BackboneWithFPN or type(heads) is not RoIHeads or _is_unsupported(backbone, heads):
        raise ValueError(
            f"This {type(model).__name__} does not support an extended level of this kind, p2x. Use torchvision's Faster or Mask "
            "R-CNN with a ResNet-FPN that starts at stride 4 (fasterrcnn_resnet50_fpn, …_v2, maskrcnn_resnet50_fpn, …); for FeatLift's "
            "detectors, `featlift train efpn`; for one-stage detectors, level='p3x'."
        )
    return backbone, heads.box_roi_pool


def _is_unsupported(backbone: BackboneWithFPN, heads: RoIHeads) -> bool:
    """Return whether the body lacks a max pooling before the finest returned layer, or the RoI pooling is not torchvision's."""
    layers: Sequence[str] = list(backbone.body)
    has_pooling = "maxpool,layer1" in ",".join(layers) and backbone.body.return_layers.get("layer1") == FINEST_LEVEL
    return not has_pooling or type(heads.box_roi_pool) is not MultiScaleRoIAlign
