"""The extended level of torchvision's RetinaNet (Lin et al., ICCV 2017) and FCOS (Tian et al., ICCV 2019) on a ResNet-FPN.

Both predict from p3 (stride 8) upwards; the level is p3 of the enlarged image, at stride 4, with the same head. RetinaNet's anchors of the
level are those of p3 halved.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn
from torchvision.models.detection.backbone_utils import BackboneWithFPN

from featlift.features import spatial_size
from featlift.upgrading.extended_detector import ExtendedDetector
from featlift.upgrading.extended_family import LevelPredictions, PlainMapNames

RETURNED_STAGES = ("layer2", "layer3", "layer4")
NEVER = -1e4
"""Logit of a prediction that is not added."""


class ExtendedDense(ExtendedDetector):
    """RetinaNet or FCOS; the predictions of the level are one more level for torchvision's selection and suppression."""

    def merge_level(self, outputs: Any) -> Any:
        """Return ``outputs``: the level was added before non-maximum suppression."""
        return outputs

    def postprocess_detections(
        self, head_outputs: Mapping[str, list[Tensor]], anchors: list[list[Tensor]], image_shapes: list[tuple[int, int]]
    ) -> list[dict[str, Tensor]]:
        """torchvision's selection over the levels, each ``[B, N, …]``, and the extended level if it is enabled."""
        original: Any = super()
        if not self.level_is_used:
            return original.postprocess_detections(head_outputs, anchors, image_shapes)
        level = self.run_level(lambda maps, _: dense_level(self, maps[0]), (head_outputs, anchors))
        if not level:
            return original.postprocess_detections(head_outputs, anchors, image_shapes)
        is_large = dense_predictions(self, level).sizes >= self.level_max_size
        level_anchors = level.pop("anchors")
        level["cls_logits"] = level["cls_logits"].masked_fill(is_large[..., None], NEVER)
        merged = {name: [*values, level[name]] for name, values in head_outputs.items()}
        all_anchors = [[*image, added] for image, added in zip(anchors, level_anchors, strict=True)]
        return original.postprocess_detections(merged, all_anchors, image_shapes)

    def plain_candidates(self, outputs: Any) -> tuple[Tensor, Tensor]:
        """From torchvision's head outputs by level, ``[B, N, …]``, and anchors of each image and level, ``[N, 4]``."""
        head_outputs, anchors = outputs
        level = {name: torch.cat(list(values), 1) for name, values in head_outputs.items()}
        level["anchors"] = torch.stack([torch.cat(list(image)) for image in anchors])
        predictions = dense_predictions(self, level)
        return predictions.boxes, predictions.scores.amax(-1)


class DenseFamily:
    """torchvision's RetinaNet and FCOS; implements :class:`~featlift.upgrading.extended_family.LevelFamily`."""

    name = "torchvision's RetinaNet and FCOS on a ResNet"
    mixin = ExtendedDense

    def matches(self, model: nn.Module) -> bool:
        """Whether ``model`` is a RetinaNet or FCOS whose pyramid starts at layer2 (stride 8) of a ResNet."""
        backbone = getattr(model, "backbone", None)
        if not isinstance(backbone, BackboneWithFPN) or not hasattr(model, "postprocess_detections"):
            return False
        body: Any = backbone.body
        head: Any = model.head
        has_head = "classification_head" in dict(head.named_children()) and hasattr(model, "anchor_generator")
        return has_head and tuple(getattr(body, "return_layers", {})) == RETURNED_STAGES

    def map_names(self, model: nn.Module) -> PlainMapNames:
        """The normalized images, the lateral map of c5, and at stride 16 the lateral map of c4 and p4."""
        fpn = "backbone.fpn"
        return PlainMapNames("backbone", f"{fpn}.inner_blocks.2", (f"{fpn}.inner_blocks.1", f"{fpn}.layer_blocks.1"))

    def run_features(self, model: Any, image: Tensor) -> object:
        """Run backbone and pyramid."""
        return model.backbone(image)

    def run_head(self, model: Any, features: Any) -> object:
        """Run the heads of all levels."""
        return model.head(list(features.values()))

    def early_maps(self, model: Any, image: Tensor) -> list[Tensor]:
        """Lateral map of c3, c4, and lateral map of c4."""
        laterals, maps = model.backbone.fpn.inner_blocks, []
        for name, stage in model.backbone.body.items():
            if name == RETURNED_STAGES[-1]:
                break
            image = stage(image)
            if name in RETURNED_STAGES:
                maps.append(image)
        return [laterals[0](maps[0]), maps[1], laterals[1](maps[1])]

    def coarse_map(self, model: Any, early: Sequence[Tensor]) -> Tensor:
        """Lateral map of c5."""
        return model.backbone.fpn.inner_blocks[2](model.backbone.body["layer4"](early[1]))

    def finest_maps(self, model: Any, early: Sequence[Tensor], coarse: Tensor) -> list[Tensor]:
        """p3."""
        fpn, x = model.backbone.fpn, coarse
        for lateral in (early[2], early[0]):
            x = lateral + nnf.interpolate(x, size=spatial_size(lateral), mode="nearest")
        return [fpn.layer_blocks[0](x)]

    def predict(self, model: Any, maps: Sequence[Tensor], image_size: tuple[int, int]) -> LevelPredictions:
        """Predictions of the shared head at stride 4."""
        return dense_predictions(model, dense_level(model, maps[0]))

    def to_input(self, model: Any, images: Tensor) -> Tensor:
        """Normalize by the mean and standard deviation of the detector's transform."""
        mean, std = (
            images.new_tensor(x)[:, None, None] for x in (model.transform.image_mean, model.transform.image_std)
        )
        return (images - mean) / std


def dense_level(model: Any, p3: Tensor) -> dict[str, Tensor]:
    """Outputs ``[B, N, …]`` of the head of ``model`` on ``p3 [B, C, H, W]`` at stride 4, and "anchors" ``[B, N, 4]`` xyxy, px."""
    generator, (height, width) = model.anchor_generator, spatial_size(p3)
    cells = generator.cell_anchors[0].to(p3.device, p3.dtype) / 2
    y, x = (torch.arange(side, device=p3.device, dtype=p3.dtype) * 4 for side in (height, width))
    shifts = torch.stack([x.expand(height, -1), y[:, None].expand(-1, width)], -1).repeat(1, 1, 2)
    anchors = (shifts[:, :, None] + cells).reshape(-1, 4)
    return {**model.head([p3]), "anchors": anchors.expand(len(p3), -1, -1)}


def dense_predictions(model: Any, level: Mapping[str, Tensor]) -> LevelPredictions:
    """Decode the outputs of :func:`dense_level`."""
    regression, anchors = level["bbox_regression"], level["anchors"]
    if "bbox_ctrness" in level:
        boxes = model.box_coder.decode(regression, anchors)
        return LevelPredictions(boxes, level["cls_logits"], centerness_logits=level["bbox_ctrness"].squeeze(-1))
    boxes = torch.stack([model.box_coder.decode_single(*pair) for pair in zip(regression, anchors, strict=True)])
    return LevelPredictions(boxes, level["cls_logits"])
