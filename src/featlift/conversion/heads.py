"""The rules for the names of necks and heads: Detectron2's R-CNNs and RetinaNet, centermask2's FCOS and CenterMask.

Detectron2 puts the background row last and predicts boxes and masks for K classes; torchvision puts it first and has a row for it
everywhere.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from featlift.conversion.rules import Rule, below

PARAMETER = r"(weight|bias)"
NORM = r"(weight|bias|running_mean|running_var|num_batches_tracked)"
SILENT = -1e4  # the logit of a background row that is never used, as in a new detector
DROPPED_ANCHORS = Rule(
    r"proposal_generator\.anchor_generator\.cell_anchors\.\d+", None, why="anchors follow from settings"
)


def background_first(x: Tensor) -> Tensor:
    """``[K + 1, …]`` with the background last → first."""
    return x.roll(1, dims=0)


def with_background(rows: int = 1, bias: float = 0.0) -> Callable[[Tensor], Tensor]:
    """``[rows · K, …]`` → ``[rows · (K + 1), …]``: zeros in front of weights, ``bias`` in front of biases."""

    def change(x: Tensor) -> Tensor:
        return torch.cat([x.new_full((rows, *x.shape[1:]), bias if x.dim() == 1 else 0.0), x])

    return change


def retina_rows(values: int, background: bool) -> Callable[[Tensor], Tensor]:
    """``[9 · values, …]`` with anchors by size, then ratio → by ratio, then size; with a silent background row before the values."""

    def change(x: Tensor) -> Tensor:
        by_anchor = x.reshape(3, 3, values, *x.shape[1:]).transpose(0, 1)
        if background:
            silent = SILENT if x.dim() == 1 else 0.0
            by_anchor = torch.cat([by_anchor.new_full((3, 3, 1, *x.shape[1:]), silent), by_anchor], dim=2)
        return by_anchor.reshape(-1, *x.shape[1:])

    return change


def generator_rules() -> list[Rule]:
    """G of AFI-GAN, inside a detector below ``backbone.srf_module.``, into :class:`featlift.interpolators.AFI`."""
    ends = {0: "first", 2: "middle", 3: "deconvolution", 4: "last"}
    block = r"Generators\.0\.1\.RDBs\.(\d+)\."
    return [
        Rule(r"Generators\.0\.([0234])\.0\." + PARAMETER, lambda m: f"{ends[int(m[1])]}.{m[2]}"),
        Rule(block + r"conv([1234])\.0\.weight", lambda m: f"blocks.{m[1]}.grow.{int(m[2]) - 1}.weight"),
        Rule(block + r"conv5\.weight", r"blocks.\1.close.weight"),
    ]


def critic_rules() -> list[Rule]:
    """D of AFI-GAN into :class:`featlift.discriminators.PatchCritic`."""
    return [
        Rule(r"Discriminators\.0\.([012])\.0\." + PARAMETER, lambda m: f"judge.{3 * int(m[1])}.{m[2]}"),
        Rule(r"Discriminators\.0\.([012])\.0\.norm\." + NORM, lambda m: f"judge.{3 * int(m[1]) + 1}.{m[2]}"),
        Rule(r"Discriminators\.0\.3\.0\." + PARAMETER, r"last.\1"),
    ]


def neck_rules(first: int) -> list[Rule]:
    """FPN and PAFPN whose finest level is p``first``, and what is on top, into :class:`featlift.pyramids.FPN` and ``PAFPN``."""
    return [
        *below("interpolators.0.", generator_rules(), r"srf_module\."),
        *_convolutions(r"fpn_lateral(\d)\.", "inner_blocks", first),
        *_convolutions(r"(?:fpn|pafpn)_output(\d)\.", "layer_blocks", first),
        *_convolutions(r"pafpn_downsample(\d)\.", "downsample", first + 1),
        Rule(r"top_block\.(p6|p7)\." + PARAMETER, r"extra_blocks.\1.\2"),
    ]


def _convolutions(theirs: str, ours: str, first: int) -> list[Rule]:
    return [
        Rule(theirs + PARAMETER, lambda m: f"{ours}.{int(m[1]) - first}.0.{m[2]}"),
        Rule(theirs + r"norm\." + NORM, lambda m: f"{ours}.{int(m[1]) - first}.1.{m[2]}"),
    ]


def rcnn_rules() -> list[Rule]:
    """RPN, box head and mask head of Faster and Mask R-CNN."""
    return [
        *_rpn_rules(),
        Rule(r"roi_heads\.box_head\.fc([12])\." + PARAMETER, lambda m: f"roi_heads.box_head.fc{int(m[1]) + 5}.{m[2]}"),
        *_classifier(r"roi_heads\.box_predictor\.", "roi_heads.box_predictor."),
        Rule(
            r"roi_heads\.box_predictor\.bbox_pred\." + PARAMETER,
            r"roi_heads.box_predictor.bbox_pred.\1",
            with_background(rows=4),
            "a box of zeros for the background added",
        ),
        *_mask_rules("roi_heads.mask_head."),
    ]


def cascade_rules(convolutions: int) -> list[Rule]:
    """RPN, the three box heads and the mask head of Cascade R-CNN; ``convolutions`` in each box head."""
    stage, head = r"roi_heads\.box_head\.(\d)\.", "roi_heads.stages.{0}.head.{1}"
    return [
        *_rpn_rules(),
        Rule(stage + r"conv(\d)\." + PARAMETER, lambda m: f"{head.format(m[1], int(m[2]) - 1)}.0.{m[3]}"),
        Rule(stage + r"conv(\d)\.norm\." + NORM, lambda m: f"{head.format(m[1], int(m[2]) - 1)}.1.{m[3]}"),
        Rule(
            stage + r"fc(\d)\." + PARAMETER, lambda m: f"{head.format(m[1], convolutions + 2 * int(m[2]) - 1)}.{m[3]}"
        ),
        *_classifier(r"roi_heads\.box_predictor\.(\d)\.", r"roi_heads.stages.\1.predictor."),
        Rule(r"roi_heads\.box_predictor\.(\d)\.bbox_pred\." + PARAMETER, r"roi_heads.stages.\1.predictor.bbox_pred.\2"),
        *_mask_rules("roi_heads.mask_head."),
    ]


def _rpn_rules() -> list[Rule]:
    head = r"proposal_generator\.rpn_head\."
    return [
        DROPPED_ANCHORS,
        Rule(head + r"conv\." + PARAMETER, r"rpn.head.conv.0.0.\1"),
        Rule(head + r"objectness_logits\." + PARAMETER, r"rpn.head.cls_logits.\1"),
        Rule(head + r"anchor_deltas\." + PARAMETER, r"rpn.head.bbox_pred.\1"),
    ]


def _classifier(theirs: str, ours: str) -> list[Rule]:
    return [
        Rule(
            f"{theirs}cls_score\\.{end}",
            f"{ours}cls_score.{end}",
            background_first,
            "background row from last to first",
        )
        for end in ("weight", "bias")
    ]


def _mask_rules(convolutions: str) -> list[Rule]:
    head = r"roi_heads\.mask_head\."
    return [
        Rule(head + r"mask_fcn(\d)\." + PARAMETER, lambda m: f"{convolutions}{int(m[1]) - 1}.0.{m[2]}"),
        Rule(head + r"mask_fcn(\d)\.norm\." + NORM, lambda m: f"{convolutions}{int(m[1]) - 1}.1.{m[2]}"),
        Rule(head + r"deconv\." + PARAMETER, r"roi_heads.mask_predictor.conv5_mask.\1"),
        Rule(
            head + r"predictor\." + PARAMETER,
            r"roi_heads.mask_predictor.mask_fcn_logits.\1",
            with_background(),
            "an empty mask for the background added",
        ),
    ]


def fcos_rules(ours: str) -> list[Rule]:
    """The head of FCOS in centermask2's names, below ``ours`` (``"head."``). The five scales are one tensor here."""
    head = r"proposal_generator\.fcos_head\."
    silent = with_background(bias=SILENT)
    return [
        Rule(head + r"cls_tower\.(\d+)\." + PARAMETER, ours + r"classification_head.conv.\1.\2"),
        Rule(head + r"bbox_tower\.(\d+)\." + PARAMETER, ours + r"regression_head.conv.\1.\2"),
        Rule(
            head + r"cls_logits\." + PARAMETER,
            ours + r"classification_head.cls_logits.\1",
            silent,
            "a silent background row added",
        ),
        Rule(head + r"bbox_pred\." + PARAMETER, ours + r"regression_head.bbox_reg.\1"),
        Rule(head + r"ctrness\." + PARAMETER, ours + r"regression_head.bbox_ctrness.\1"),
        Rule(head + r"scales", ours + "regression_head.scales"),
    ]


def centermask_rules() -> list[Rule]:
    """FCOS, the attentive mask head and the mask-IoU head of CenterMask."""
    iou = r"roi_heads\.maskiou_head\."
    return [
        *fcos_rules("rpn.dense.head."),
        Rule(r"roi_heads\.mask_head\.spatialAtt\.conv\.weight", "roi_heads.mask_head.1.conv.weight"),
        *_mask_rules("roi_heads.mask_head.0."),
        Rule(
            iou + r"maskiou_fcn(\d)\." + PARAMETER, lambda m: f"roi_heads.mask_iou.convolutions.{int(m[1]) - 1}.{m[2]}"
        ),
        Rule(iou + r"maskiou_fc([12])\." + PARAMETER, r"roi_heads.mask_iou.fc\1.\2"),
        Rule(
            iou + r"maskiou\." + PARAMETER,
            r"roi_heads.mask_iou.last.\1",
            with_background(),
            "a row for the background added",
        ),
    ]


def retinanet_rules(classes: int) -> list[Rule]:
    """The head of Detectron2's RetinaNet with K ``classes`` and nine anchors."""
    towers = {"cls": "classification", "bbox": "regression"}
    return [
        Rule(r"anchor_generator\.cell_anchors\.\d+", None, why="anchors follow from settings"),
        Rule(
            r"head\.(cls|bbox)_subnet\.(\d)\." + PARAMETER,
            lambda m: f"head.{towers[m[1]]}_head.conv.{int(m[2]) // 2}.0.{m[3]}",
        ),
        Rule(
            r"head\.cls_score\." + PARAMETER,
            r"head.classification_head.cls_logits.\1",
            retina_rows(classes, background=True),
            "anchors by ratio, then size; silent background rows added",
        ),
        Rule(
            r"head\.bbox_pred\." + PARAMETER,
            r"head.regression_head.bbox_reg.\1",
            retina_rows(4, background=False),
            "anchors by ratio, then size",
        ),
    ]
