"""EFPN's finer level (Deng et al., IEEE TMM 2021) in a torchvision Faster or Mask R-CNN that exists, without a label.

The level is there but not read until :func:`enable_level`: outputs stay the same to the last bit. Then RoIs under a size are pooled from p2x
(stride 2) instead of "0" (stride 4), and judged by the head that is there, as the authors' release does on COCO. What it has to learn,
p2x of a picture as the detector itself has "0" of the picture at twice the size, is :func:`level_distillation_loss`, which needs pictures only.
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

from featlift.detectors.efpn import TT100K_SMALL_ROI_SIZE, ExclusiveRouting
from featlift.detectors.sparse_level import DenseReader, RoIReader, SparseReader
from featlift.features import Features
from featlift.losses import pyramid_l1
from featlift.pyramids.efpn import ExtendedLevel, init_extended_level, texture_transfer
from featlift.resolution import cross_resolution
from featlift.upgrading.modules import UpgradedFPN, swap_class
from featlift.upgrading.report import UpgradeRow
from featlift.upgrading.residual import StepAdapters

EXTENDED_LEVELS = ("p2x",)
FINEST_LEVEL = "0"
"""torchvision's name of p2."""


class ExtendableFeatures(dict[str, Tensor]):
    """The maps of a pyramid, and ``extension_inputs`` what a finer level is made from, which an RPN that takes all maps does not see."""

    def __init__(self, features: Features, extension_inputs: Features):
        super().__init__(features)
        self.extension_inputs = extension_inputs


class EFPNBackbone(BackboneWithFPN):
    """torchvision's ResNet with an FPN, and an extension of it. Made by :meth:`upgrade_detector`."""

    added: ExtendedLevel

    @classmethod
    def upgrade(cls, backbone: BackboneWithFPN, extension: ExtendedLevel) -> None:
        """Turn ``backbone`` into one of these."""
        UpgradedFPN.upgrade(backbone.fpn, StepAdapters([None] * (len(backbone.fpn.layer_blocks) - 1)))
        swap_class(backbone, cls)
        backbone.added = extension.train(backbone.training)

    def restore(self) -> None:
        """Make it torchvision's again."""
        fpn: Any = self.fpn
        fpn.restore()
        del self.added
        swap_class(self, BackboneWithFPN)

    def forward(self, x: Tensor) -> ExtendableFeatures:
        """``[B, 3, H, W]``, normalized → ``{"0": [B, C, H/4, W/4], …}`` and, beneath, inner3, inner2 and c1 (strides 8, 4, 2)."""
        maps: Features = {}
        beneath: Features = {}
        for name, layer in self.body.items():
            if name == "maxpool":
                beneath["c1"] = x
            x = layer(x)
            if name in self.body.return_layers:
                maps[self.body.return_layers[name]] = x
        fpn: Any = self.fpn
        inner = fpn.inner_maps(maps)
        return ExtendableFeatures(fpn.outputs(maps, inner), {**beneath, "inner2": inner[0], "inner3": inner[1]})

    def extended_levels(self, extension_inputs: Features) -> Features:
        """``{"p3x": [B, C, H/4, W/4], "p2x": [B, C, H/2, W/2]}`` from what lies beneath, or from windows of it."""
        c2x = self.body["layer1"](extension_inputs["c1"])
        return self.added(extension_inputs["inner3"], extension_inputs["inner2"], c2x)


class EFPNRoIAlign(MultiScaleRoIAlign):
    """torchvision's RoI pooling, small RoIs from p2x. Made by :meth:`upgrade_detector`; with a ``small_roi_size`` of 0 it is torchvision's."""

    small_roi_size: float
    roi_reader: RoIReader

    @classmethod
    def upgrade(cls, pooling: MultiScaleRoIAlign, backbone: EFPNBackbone, tile_size: int) -> None:
        """Turn ``pooling`` into one of these; it reads windows of ``tile_size`` cells of stride 8, or for 0 the whole map."""
        swap_class(pooling, cls)
        reader = (
            SparseReader(backbone.extended_levels, tile_size) if tile_size else DenseReader(backbone.extended_levels)
        )
        pooling.__dict__.update(limit=0.0, reader=reader)

    def restore(self) -> None:
        """Make it torchvision's again."""
        del self.small_roi_size, self.roi_reader
        swap_class(self, MultiScaleRoIAlign)

    def forward(self, x: Features, boxes: list[Tensor], image_shapes: list[tuple[int, int]]) -> Tensor:
        """Maps ``[B, C, H, W]`` by name, boxes ``[N, 4]`` of each picture, and their sizes → ``[ΣN, C, 7, 7]``."""
        if not self.small_roi_size:
            return super().forward(x, boxes, image_shapes)
        assert isinstance(x, ExtendableFeatures)
        small = [ExclusiveRouting(self.small_roi_size)(of_one)[1] for of_one in boxes]
        old = super().forward(x, [b[~s] for b, s in zip(boxes, small, strict=True)], image_shapes)
        new = self.roi_reader(x.extension_inputs, [b[s] for b, s in zip(boxes, small, strict=True)])
        chosen = torch.cat(small)
        pooled = old.new_empty((len(chosen), *old.shape[1:]))
        pooled[~chosen], pooled[chosen] = old, new
        return pooled


def install_level(model: nn.Module, level: str, transfer_name: str, options: dict[str, Any]) -> tuple[str, ...]:
    """Add ``level`` to ``model``, made by the transfer ``transfer_name``; returns the dotted names of the modules that are changed.

    ``options`` are those of the transfer, and ``tile``: side in cells of stride 8 of the windows that p2x is computed in (0: all of it).

    Raises:
        ValueError: for a level or transfer that does not exist, or a detector that cannot have it.
    """
    if level not in EXTENDED_LEVELS:
        raise ValueError(f"There is no finer level '{level}'; there is {', '.join(EXTENDED_LEVELS)}.")
    backbone, pooling = _get_extendable_modules(model)
    like = next(backbone.fpn.layer_blocks.parameters())
    finest, channels = backbone.fpn.inner_blocks[0], backbone.out_channels
    inputs = next(m.in_channels for m in finest.modules() if isinstance(m, nn.Conv2d))
    made = texture_transfer(
        transfer_name, channels, **{option: value for option, value in options.items() if option != "tile"}
    )
    extension = ExtendedLevel(inputs, channels, made)
    init_extended_level(extension, finest, backbone.fpn.layer_blocks[0])
    EFPNBackbone.upgrade(backbone, extension.to(like.device, like.dtype))
    EFPNRoIAlign.upgrade(pooling, backbone, options.get("tile", 0))  # type: ignore[arg-type]
    return "backbone", "roi_heads.box_roi_pool"


def level_report_row(model: nn.Module, level: str, transfer_name: str, image_size: tuple[int, int]) -> UpgradeRow:
    """What was added to ``model``, for the report: parameters, and multiply-adds on a ``image_size`` of (H, W) px, all of it computed."""
    from torch.utils.flop_counter import FlopCounterMode

    backbone, _ = _get_extended_modules(model)
    stage, added = (copy.deepcopy(m).to("meta").eval() for m in (backbone.body["layer1"], backbone.added))
    stem = next(m.in_channels for m in stage.modules() if isinstance(m, nn.Conv2d))
    strides = {"inner3": (8, backbone.out_channels), "inner2": (4, backbone.out_channels), "c1": (2, stem)}
    maps = {
        key: torch.zeros(1, channels, *(side // stride for side in image_size), device="meta")
        for key, (stride, channels) in strides.items()
    }
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        added(maps["inner3"], maps["inner2"], stage(maps["c1"]))
    parameters = sum(p.numel() for p in added.parameters())
    return UpgradeRow(
        "backbone",
        level,
        2,
        backbone.out_channels,
        "–",
        f"+ {transfer_name}",
        parameters,
        counter.get_total_flops() / 2e9,
    )


def enable_level(model: nn.Module, small_roi_size: float = TT100K_SMALL_ROI_SIZE) -> None:
    """Read RoIs with √(w·h) below ``small_roi_size`` px of the resized picture from the finer level of ``model``; 0 reads none.

    56 is torchvision's own rule with one level more: on the picture at twice the size, these are the RoIs that are read from "0".

    Raises:
        ValueError: if ``model`` has no finer level, or ``small_roi_size`` is negative.
    """
    if small_roi_size < 0:
        raise ValueError(f"limit is {small_roi_size}; give a side in px, or 0 to leave the finer level unread.")
    _get_extended_modules(model)[1].small_roi_size = float(small_roi_size)


def get_small_roi_size(model: nn.Module) -> float:
    """Below which size RoIs are read from the finer level; 0 if none are. Raises ValueError if ``model`` has none."""
    return _get_extended_modules(model)[1].small_roi_size


def level_distillation_loss(model: nn.Module, images: Tensor) -> dict[str, Tensor]:
    """What the finer level of ``model`` still has to learn on a batch (EFPN, Sec. III-C, Eq. 5, the global terms): ``{"global": scalar}``.

    The teacher is the model on ``images``, the student its finer level on the batch's 2x2 means. Only the level gets a gradient. Keep the
    model in evaluation mode, so that batch norms keep their statistics.

    Args:
        model: with a finer level.
        images: ``[B, 3, H, W]``, normalized as the model wants it; H and W multiples of 64. Good pictures are twice as large as
            those the model will see.

    Raises:
        ValueError: if the model has no finer level, is in training mode, or H or W is no multiple of 64.
    """
    if model.training:
        raise ValueError("distillation needs the model in evaluation mode: call model.eval() first.")
    if any(side % 64 for side in images.shape[-2:]):
        raise ValueError(
            f"The batch is {tuple(images.shape)}; sides must be multiples of 64, so that cells lie on cells."
        )
    backbone, _ = _get_extended_modules(model)
    student, teacher = cross_resolution(
        teacher=lambda large: level_teacher_maps(backbone(large)),
        student=lambda small: backbone.added(**_compute_extension_inputs(backbone, small)),
        image=images,
        downscale=lambda large: nnf.avg_pool2d(large, 2),
    )
    return {"global": pyramid_l1(student, teacher)}


def level_teacher_maps(features: ExtendableFeatures) -> Features:
    """The teacher's maps under the names of the levels that they teach."""
    return {"p3x": features.extension_inputs["inner3"], "p2x": features[FINEST_LEVEL]}


@torch.no_grad()
def _compute_extension_inputs(backbone: EFPNBackbone, image: Tensor) -> Features:
    """What the extension gets of ``image``, without a graph."""
    below = backbone(image).beneath
    return {"inner3": below["inner3"], "inner2": below["inner2"], "c2x": backbone.body["layer1"](below["c1"])}


def _get_extended_modules(model: nn.Module) -> tuple[EFPNBackbone, EFPNRoIAlign]:
    backbone, pooling = (
        getattr(model, "backbone", None),
        getattr(getattr(model, "roi_heads", None), "box_roi_pool", None),
    )
    if not isinstance(backbone, EFPNBackbone) or not isinstance(pooling, EFPNRoIAlign):
        raise ValueError(
            f"This {type(model).__name__} has no finer level: featlift.upgrade(model, level='p2x') adds one."
        )
    return backbone, pooling


def _get_extendable_modules(model: nn.Module) -> tuple[BackboneWithFPN, MultiScaleRoIAlign]:
    """The backbone and the box pooling of a torchvision R-CNN on a ResNet with an FPN from stride 4 on."""
    backbone, heads = getattr(model, "backbone", None), getattr(model, "roi_heads", None)
    if type(backbone) is not BackboneWithFPN or type(heads) is not RoIHeads or _is_unsupported(backbone, heads):
        raise ValueError(
            f"This {type(model).__name__} cannot have a finer level. torchvision's Faster and Mask R-CNN on a ResNet with an FPN from "
            "stride 4 on can (fasterrcnn_resnet50_fpn, …_v2, maskrcnn_resnet50_fpn, …); FeatLift's own detectors become EFPN by "
            "`featlift train efpn`."
        )
    return backbone, heads.box_roi_pool


def _is_unsupported(backbone: BackboneWithFPN, heads: RoIHeads) -> bool:
    """Whether the body does not pool between its stem and the layer that gives the finest map, or RoIs are pooled otherwise."""
    layers: Sequence[str] = list(backbone.body)
    pools = "maxpool,layer1" in ",".join(layers) and backbone.body.return_layers.get("layer1") == FINEST_LEVEL
    return not pools or type(heads.box_roi_pool) is not MultiScaleRoIAlign
