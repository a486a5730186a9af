"""The extended level of YOLOX (Ge et al., arXiv 2107.08430): strides 8, 16, 32 and a level at stride 4 with the head of stride 8.

Found by the names of the authors' modules, so that every package that kept them (pixeltable-yolox, the original) is meant.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.ops import box_convert

from featlift.upgrading.extended_detector import ExtendedDetector
from featlift.upgrading.extended_family import LevelPredictions, PlainMapNames

NECK_BLOCKS = ("lateral_conv0", "C3_p4", "reduce_conv1", "C3_p3", "C3_n3")
MAX_LOG_SIDE = 12.0
"""Limit of the logarithm of a side in cells, far above any image: gradients of random weights stay finite."""
HEAD_BLOCKS = ("stems", "cls_convs", "reg_convs", "cls_preds", "reg_preds", "obj_preds")


class ExtendedYOLOX(ExtendedDetector):
    """YOLOX whose rows of predictions are followed by those of the level."""

    def merge_level(self, outputs: Tensor) -> Tensor:
        """``[B, N, 5 + K]`` (center, sides, objectness, classes) → ``[B, N + N', 5 + K]``, objectness 0 for boxes that are not small."""
        if not getattr(self.head, "decode_in_inference", True):
            raise RuntimeError(
                "The head returns boxes that are not decoded (decode_in_inference=False), in which the extended level cannot be "
                "merged. Set model.head.decode_in_inference = True, or disable the level with enable_level(model, 0)."
            )
        level = self.run_level(lambda maps, _: yolox_predictions(self.head, maps[0]).tensors(), outputs)
        if not level:
            return outputs
        predictions = LevelPredictions(**level)
        assert predictions.objectness_logits is not None
        objectness = predictions.objectness_logits.sigmoid() * (predictions.sizes < self.level_max_size)
        low, high = predictions.boxes.split(2, -1)
        rows = torch.cat(
            [(low + high) / 2, high - low, objectness[..., None], predictions.class_logits.sigmoid()], dim=-1
        )
        return torch.cat([outputs, rows.to(outputs.dtype)], dim=1)

    def plain_candidates(self, outputs: Tensor) -> tuple[Tensor, Tensor]:
        """From rows ``[B, N, 5 + K]``."""
        return box_convert(outputs[..., :4], "cxcywh", "xyxy"), outputs[..., 4] * outputs[..., 5:].amax(-1)


class YOLOXFamily:
    """YOLOX with the authors' module names; implements :class:`~featlift.upgrading.extended_family.LevelFamily`."""

    name = "YOLOX"
    mixin = ExtendedYOLOX

    def matches(self, model: nn.Module) -> bool:
        """Whether ``model`` has the authors' backbone, neck and head, and predicts at strides 8, 16, 32."""
        neck, head = getattr(model, "backbone", None), getattr(model, "head", None)
        strides: Any = getattr(head, "strides", ())
        has_blocks = all(hasattr(neck, name) for name in NECK_BLOCKS) and all(hasattr(head, b) for b in HEAD_BLOCKS)
        return has_blocks and hasattr(getattr(neck, "backbone", None), "dark5") and list(strides) == [8, 16, 32]

    def map_names(self, model: nn.Module) -> PlainMapNames:
        """The image, lateral_conv0's map at stride 32, and two maps at stride 16."""
        return PlainMapNames("backbone", "backbone.lateral_conv0", ("backbone.reduce_conv1", "backbone.C3_n3"))

    def run_features(self, model: Any, image: Tensor) -> object:
        """Run backbone and neck."""
        return model.backbone(image)

    def run_head(self, model: Any, features: Any) -> object:
        """Run the heads."""
        return model.head(features)

    def early_maps(self, model: Any, image: Tensor) -> list[Tensor]:
        """Maps of dark3 and dark4."""
        body = model.backbone.backbone
        dark3 = body.dark3(body.dark2(body.stem(image)))
        return [dark3, body.dark4(dark3)]

    def coarse_map(self, model: Any, early: Sequence[Tensor]) -> Tensor:
        """Map of lateral_conv0."""
        return model.backbone.lateral_conv0(model.backbone.backbone.dark5(early[-1]))

    def finest_maps(self, model: Any, early: Sequence[Tensor], coarse: Tensor) -> list[Tensor]:
        """Map of C3_p3."""
        neck, (dark3, dark4) = model.backbone, early
        reduced = neck.reduce_conv1(neck.C3_p4(torch.cat([neck.upsample(coarse), dark4], 1)))
        return [neck.C3_p3(torch.cat([neck.upsample(reduced), dark3], 1))]

    def predict(self, model: Any, maps: Sequence[Tensor], image_size: tuple[int, int]) -> LevelPredictions:
        """Predictions of the head of stride 8 at stride 4."""
        return yolox_predictions(model.head, maps[0])

    def to_input(self, model: nn.Module, images: Tensor) -> Tensor:
        """BGR in 0…255, which the published weights expect."""
        return images.flip(1) * 255


def yolox_predictions(head: Any, x: Tensor) -> LevelPredictions:
    """Predictions of the finest branch of ``head`` on ``x [B, C, H, W]`` at half its stride."""
    x = head.stems[0](x)
    classes = head.cls_preds[0](head.cls_convs[0](x))
    features = head.reg_convs[0](x)
    boxes, objectness = head.reg_preds[0](features), head.obj_preds[0](features)
    boxes = decode_yolox_boxes(boxes, head.strides[0] / 2)
    return LevelPredictions(boxes, classes.flatten(2).transpose(1, 2), objectness.flatten(1))


def decode_yolox_boxes(regression: Tensor, stride: float) -> Tensor:
    """Decode YOLOX's regression ``[B, 4, H, W]`` (offset of the center from the cell, logarithm of the sides) → ``[B, HW, 4]`` xyxy, px."""
    height, width = regression.shape[-2:]
    rows = torch.arange(height, dtype=regression.dtype, device=regression.device)
    columns = torch.arange(width, dtype=regression.dtype, device=regression.device)
    grid = torch.stack([columns.expand(height, -1), rows[:, None].expand(-1, width)])
    center = (regression[:, :2] + grid) * stride
    half_sides = regression[:, 2:].clamp(max=MAX_LOG_SIDE).exp() * (stride / 2)
    return torch.cat([center - half_sides, center + half_sides], 1).flatten(2).transpose(1, 2)
