"""torchvision's ResNet-FPN backbone and RoI pooling, converted in place to EFPN's extended level."""

from typing import Any

import torch
from torch import Tensor
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.ops import MultiScaleRoIAlign

from featlift.detectors.efpn import ExclusiveRouting
from featlift.detectors.sparse_level import DenseReader, RoIReader, SparseReader
from featlift.features import Features
from featlift.pyramids.efpn import ExtendedLevel
from featlift.upgrading.adapters import StepAdapters
from featlift.upgrading.modules import UpgradedFPN, swap_class

FINEST_LEVEL = "0"
"""torchvision's name of p2."""


class ExtendableFeatures(dict[str, Tensor]):
    """Feature maps of a pyramid; ``extension_inputs`` (inner3, inner2, c1) is an attribute, because the RPN reads all maps."""

    def __init__(self, features: Features, extension_inputs: Features):
        super().__init__(features)
        self.extension_inputs = extension_inputs


class EFPNBackbone(BackboneWithFPN):
    """torchvision's ResNet-FPN backbone with an extended level; created by :meth:`upgrade`."""

    added: ExtendedLevel

    @classmethod
    def upgrade(cls, backbone: BackboneWithFPN, extension: ExtendedLevel) -> None:
        """Convert ``backbone`` in place; ``extension`` computes the extended level."""
        UpgradedFPN.upgrade(backbone.fpn, StepAdapters([None] * (len(backbone.fpn.layer_blocks) - 1)))
        swap_class(backbone, cls)
        backbone.added = extension.train(backbone.training)

    def restore(self) -> None:
        """Restore torchvision's class."""
        fpn: Any = self.fpn
        fpn.restore()
        del self.added
        swap_class(self, BackboneWithFPN)

    def forward(self, x: Tensor) -> ExtendableFeatures:
        """``[B, 3, H, W]``, normalized → ``{"0": [B, C, H/4, W/4], …}``, with inner3, inner2 and c1 as ``extension_inputs``."""
        maps: Features = {}
        stem: Features = {}
        for name, layer in self.body.items():
            if name == "maxpool":
                stem["c1"] = x
            x = layer(x)
            if name in self.body.return_layers:
                maps[self.body.return_layers[name]] = x
        fpn: Any = self.fpn
        inner = fpn.inner_maps(maps)
        return ExtendableFeatures(fpn.outputs_from_inner(maps, inner), {**stem, "inner2": inner[0], "inner3": inner[1]})

    def extended_levels(self, extension_inputs: Features) -> Features:
        """Return ``{"p3x": [B, C, H/4, W/4], "p2x": [B, C, H/2, W/2]}`` from inner3, inner2 and c1, or from crops of them."""
        c2x = self.body["layer1"](extension_inputs["c1"])
        return self.added(extension_inputs["inner3"], extension_inputs["inner2"], c2x)


class EFPNRoIAlign(MultiScaleRoIAlign):
    """torchvision's RoI pooling that pools small RoIs from p2x; created by :meth:`upgrade`. A ``small_roi_size`` of 0 disables p2x."""

    small_roi_size: float
    roi_reader: RoIReader

    @classmethod
    def upgrade(cls, pooling: MultiScaleRoIAlign, backbone: EFPNBackbone, tile_size: int) -> None:
        """Convert ``pooling`` in place; p2x is computed in tiles of ``tile_size`` stride-8 cells, or as a whole if 0."""
        swap_class(pooling, cls)
        reader = (
            SparseReader(backbone.extended_levels, tile_size) if tile_size else DenseReader(backbone.extended_levels)
        )
        pooling.__dict__.update(small_roi_size=0.0, roi_reader=reader)

    def restore(self) -> None:
        """Restore torchvision's class."""
        del self.small_roi_size, self.roi_reader
        swap_class(self, MultiScaleRoIAlign)

    def forward(self, x: Features, boxes: list[Tensor], image_shapes: list[tuple[int, int]]) -> Tensor:
        """Level → ``[B, C, H, W]``, boxes ``[N, 4]`` xyxy and (height, width) of each image → ``[ΣN, C, 7, 7]``."""
        if not self.small_roi_size:
            return super().forward(x, boxes, image_shapes)
        assert isinstance(x, ExtendableFeatures)
        small = [ExclusiveRouting(self.small_roi_size)(image_boxes)[1] for image_boxes in boxes]
        coarse = super().forward(x, [b[~s] for b, s in zip(boxes, small, strict=True)], image_shapes)
        fine = self.roi_reader(x.extension_inputs, [b[s] for b, s in zip(boxes, small, strict=True)])
        is_small = torch.cat(small)
        pooled = coarse.new_empty((len(is_small), *coarse.shape[1:]))
        pooled[~is_small], pooled[is_small] = coarse, fine
        return pooled
