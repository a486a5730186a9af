"""Rules for the keys of necks and heads: Detectron2's R-CNNs and RetinaNet, centermask2's FCOS and CenterMask.

Detectron2 puts the background row last and predicts boxes and masks for K classes; torchvision puts it first and has a background row in
all predictors.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from featlift.conversion.rules import KeyRule, with_prefix

WEIGHT_OR_BIAS = r"(weight|bias)"
NORM_TENSOR = r"(weight|bias|running_mean|running_var|num_batches_tracked)"
UNUSED_CLASS_LOGIT = -1e4  # logit of an unused background row, as in a new detector
SKIP_RPN_ANCHORS = KeyRule(
    r"proposal_generator\.anchor_generator\.cell_anchors\.\d+", None, reason="anchors follow from the configuration"
)


def move_background_first(x: Tensor) -> Tensor:
    """Move the background row of ``[K + 1, …]`` from last to first."""
    return x.roll(1, dims=0)


def prepend_background(rows: int = 1, bias: float = 0.0) -> Callable[[Tensor], Tensor]:
    """Return the transform ``[rows · K, …]`` → ``[rows · (K + 1), …]`` that prepends zeros to weights and ``bias`` to biases."""

    def transform(x: Tensor) -> Tensor:
        return torch.cat([x.new_full((rows, *x.shape[1:]), bias if x.dim() == 1 else 0.0), x])

    return transform


def reorder_retinanet_anchors(values_per_anchor: int, add_background: bool) -> Callable[[Tensor], Tensor]:
    """Return the transform of ``[9 · values, …]`` from anchor order (size, ratio) to (ratio, size); can add unused background rows."""

    def transform(x: Tensor) -> Tensor:
        by_anchor = x.reshape(3, 3, values_per_anchor, *x.shape[1:]).transpose(0, 1)
        if add_background:
            logit = UNUSED_CLASS_LOGIT if x.dim() == 1 else 0.0
            by_anchor = torch.cat([by_anchor.new_full((3, 3, 1, *x.shape[1:]), logit), by_anchor], dim=2)
        return by_anchor.reshape(-1, *x.shape[1:])

    return transform


def afi_rules() -> list[KeyRule]:
    """Return the rules from AFI-GAN's G (in a detector below ``backbone.srf_module.``) to :class:`featlift.interpolators.AFI`."""
    layers = {0: "first", 2: "middle", 3: "deconvolution", 4: "last"}
    block = r"Generators\.0\.1\.RDBs\.(\d+)\."
    return [
        KeyRule(r"Generators\.0\.([0234])\.0\." + WEIGHT_OR_BIAS, lambda m: f"{layers[int(m[1])]}.{m[2]}"),
        KeyRule(block + r"conv([1234])\.0\.weight", lambda m: f"blocks.{m[1]}.grow.{int(m[2]) - 1}.weight"),
        KeyRule(block + r"conv5\.weight", r"blocks.\1.close.weight"),
    ]


def discriminator_rules() -> list[KeyRule]:
    """Return the rules from AFI-GAN's D to :class:`featlift.distillation.discriminator.PatchDiscriminator`."""
    return [
        KeyRule(r"Discriminators\.0\.([012])\.0\." + WEIGHT_OR_BIAS, lambda m: f"body.{3 * int(m[1])}.{m[2]}"),
        KeyRule(r"Discriminators\.0\.([012])\.0\.norm\." + NORM_TENSOR, lambda m: f"body.{3 * int(m[1]) + 1}.{m[2]}"),
        KeyRule(r"Discriminators\.0\.3\.0\." + WEIGHT_OR_BIAS, r"last.\1"),
    ]


def neck_rules(finest_level: int) -> list[KeyRule]:
    """Return the rules to :class:`featlift.pyramids.FPN` and ``PAFPN`` with finest level p``finest_level``, including extra levels."""
    return [
        *with_prefix("interpolators.0.", afi_rules(), r"srf_module\."),
        *_fpn_conv_rules(r"fpn_lateral(\d)\.", "inner_blocks", finest_level),
        *_fpn_conv_rules(r"(?:fpn|pafpn)_output(\d)\.", "layer_blocks", finest_level),
        *_fpn_conv_rules(r"pafpn_downsample(\d)\.", "downsample", finest_level + 1),
        KeyRule(r"top_block\.(p6|p7)\." + WEIGHT_OR_BIAS, r"extra_blocks.\1.\2"),
    ]


def _fpn_conv_rules(pattern: str, prefix: str, finest_level: int) -> list[KeyRule]:
    return [
        KeyRule(pattern + WEIGHT_OR_BIAS, lambda m: f"{prefix}.{int(m[1]) - finest_level}.0.{m[2]}"),
        KeyRule(pattern + r"norm\." + NORM_TENSOR, lambda m: f"{prefix}.{int(m[1]) - finest_level}.1.{m[2]}"),
    ]


def rcnn_rules() -> list[KeyRule]:
    """Return the rules for RPN, box head and mask head of Faster and Mask R-CNN."""
    return [
        *_rpn_rules(),
        KeyRule(
            r"roi_heads\.box_head\.fc([12])\." + WEIGHT_OR_BIAS,
            lambda m: f"roi_heads.box_head.fc{int(m[1]) + 5}.{m[2]}",
        ),
        *_classifier_rules(r"roi_heads\.box_predictor\.", "roi_heads.box_predictor."),
        KeyRule(
            r"roi_heads\.box_predictor\.bbox_pred\." + WEIGHT_OR_BIAS,
            r"roi_heads.box_predictor.bbox_pred.\1",
            prepend_background(rows=4),
            "zero background box added",
        ),
        *_mask_rules("roi_heads.mask_head."),
    ]


def cascade_rules(num_convs: int) -> list[KeyRule]:
    """Return the rules for RPN, the three box heads (``num_convs`` convolutions each) and the mask head of Cascade R-CNN."""
    stage, head = r"roi_heads\.box_head\.(\d)\.", "roi_heads.stages.{0}.head.{1}"
    return [
        *_rpn_rules(),
        KeyRule(stage + r"conv(\d)\." + WEIGHT_OR_BIAS, lambda m: f"{head.format(m[1], int(m[2]) - 1)}.0.{m[3]}"),
        KeyRule(stage + r"conv(\d)\.norm\." + NORM_TENSOR, lambda m: f"{head.format(m[1], int(m[2]) - 1)}.1.{m[3]}"),
        KeyRule(
            stage + r"fc(\d)\." + WEIGHT_OR_BIAS, lambda m: f"{head.format(m[1], num_convs + 2 * int(m[2]) - 1)}.{m[3]}"
        ),
        *_classifier_rules(r"roi_heads\.box_predictor\.(\d)\.", r"roi_heads.stages.\1.predictor."),
        KeyRule(
            r"roi_heads\.box_predictor\.(\d)\.bbox_pred\." + WEIGHT_OR_BIAS,
            r"roi_heads.stages.\1.predictor.bbox_pred.\2",
        ),
        *_mask_rules("roi_heads.mask_head."),
    ]


def _rpn_rules() -> list[KeyRule]:
    head = r"proposal_generator\.rpn_head\."
    return [
        SKIP_RPN_ANCHORS,
        KeyRule(head + r"conv\." + WEIGHT_OR_BIAS, r"rpn.head.conv.0.0.\1"),
        KeyRule(head + r"objectness_logits\." + WEIGHT_OR_BIAS, r"rpn.head.cls_logits.\1"),
        KeyRule(head + r"anchor_deltas\." + WEIGHT_OR_BIAS, r"rpn.head.bbox_pred.\1"),
    ]


def _classifier_rules(pattern: str, prefix: str) -> list[KeyRule]:
    return [
        KeyRule(
            f"{pattern}cls_score\\.{end}",
            f"{prefix}cls_score.{end}",
            move_background_first,
            "background row moved from last to first",
        )
        for end in ("weight", "bias")
    ]


def _mask_rules(prefix: str) -> list[KeyRule]:
    head = r"roi_heads\.mask_head\."
    return [
        KeyRule(head + r"mask_fcn(\d)\." + WEIGHT_OR_BIAS, lambda m: f"{prefix}{int(m[1]) - 1}.0.{m[2]}"),
        KeyRule(head + r"mask_fcn(\d)\.norm\." + NORM_TENSOR, lambda m: f"{prefix}{int(m[1]) - 1}.1.{m[2]}"),
        KeyRule(head + r"deconv\." + WEIGHT_OR_BIAS, r"roi_heads.mask_predictor.conv5_mask.\1"),
        KeyRule(
            head + r"predictor\." + WEIGHT_OR_BIAS,
            r"roi_heads.mask_predictor.mask_fcn_logits.\1",
            prepend_background(),
            "empty background mask added",
        ),
    ]


def fcos_rules(prefix: str) -> list[KeyRule]:
    """Return the rules from centermask2's FCOS head to the keys below ``prefix`` (``"head."``). The five scales are one tensor here."""
    head = r"proposal_generator\.fcos_head\."
    add_unused_background = prepend_background(bias=UNUSED_CLASS_LOGIT)
    return [
        KeyRule(head + r"cls_tower\.(\d+)\." + WEIGHT_OR_BIAS, prefix + r"classification_head.conv.\1.\2"),
        KeyRule(head + r"bbox_tower\.(\d+)\." + WEIGHT_OR_BIAS, prefix + r"regression_head.conv.\1.\2"),
        KeyRule(
            head + r"cls_logits\." + WEIGHT_OR_BIAS,
            prefix + r"classification_head.cls_logits.\1",
            add_unused_background,
            "unused background row added",
        ),
        KeyRule(head + r"bbox_pred\." + WEIGHT_OR_BIAS, prefix + r"regression_head.bbox_reg.\1"),
        KeyRule(head + r"ctrness\." + WEIGHT_OR_BIAS, prefix + r"regression_head.bbox_ctrness.\1"),
        KeyRule(head + r"scales", prefix + "regression_head.scales"),
    ]


def centermask_rules() -> list[KeyRule]:
    """Return the rules for FCOS, the attentive mask head and the mask-IoU head of CenterMask."""
    iou = r"roi_heads\.maskiou_head\."
    return [
        *fcos_rules("rpn.dense.head."),
        KeyRule(r"roi_heads\.mask_head\.spatialAtt\.conv\.weight", "roi_heads.mask_head.1.conv.weight"),
        *_mask_rules("roi_heads.mask_head.0."),
        KeyRule(
            iou + r"maskiou_fcn(\d)\." + WEIGHT_OR_BIAS,
            lambda m: f"roi_heads.mask_iou.convolutions.{int(m[1]) - 1}.{m[2]}",
        ),
        KeyRule(iou + r"maskiou_fc([12])\." + WEIGHT_OR_BIAS, r"roi_heads.mask_iou.fc\1.\2"),
        KeyRule(
            iou + r"maskiou\." + WEIGHT_OR_BIAS,
            r"roi_heads.mask_iou.last.\1",
            prepend_background(),
            "background row added",
        ),
    ]


def retinanet_rules(num_classes: int) -> list[KeyRule]:
    """Return the rules for the head of Detectron2's RetinaNet with ``num_classes`` classes and nine anchors."""
    towers = {"cls": "classification", "bbox": "regression"}
    return [
        KeyRule(r"anchor_generator\.cell_anchors\.\d+", None, reason="anchors follow from the configuration"),
        KeyRule(
            r"head\.(cls|bbox)_subnet\.(\d)\." + WEIGHT_OR_BIAS,
            lambda m: f"head.{towers[m[1]]}_head.conv.{int(m[2]) // 2}.0.{m[3]}",
        ),
        KeyRule(
            r"head\.cls_score\." + WEIGHT_OR_BIAS,
            r"head.classification_head.cls_logits.\1",
            reorder_retinanet_anchors(num_classes, add_background=True),
            "anchors reordered by ratio, then size; unused background rows added",
        ),
        KeyRule(
            r"head\.bbox_pred\." + WEIGHT_OR_BIAS,
            r"head.regression_head.bbox_reg.\1",
            reorder_retinanet_anchors(4, add_background=False),
            "anchors reordered by ratio, then size",
        ),
    ]
