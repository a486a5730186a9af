"""Cascade R-CNN (Cai and Vasconcelos, CVPR 2018) on any extractor, with and without masks, from torchvision's own parts.

Three box heads, each trained on what the one before it made of the proposals, against a stricter overlap (spec §8): IoU 0.5, 0.6, 0.7,
class-agnostic boxes, 2,000 proposals in training. Their losses are AFI-GAN's Eq. (4), the box terms once for each stage.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection._utils import BoxCoder, Matcher
from torchvision.models.detection.faster_rcnn import FastRCNNConvFCHead, FastRCNNPredictor
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.roi_heads import RoIHeads, fastrcnn_loss, maskrcnn_inference, maskrcnn_loss
from torchvision.ops import box_iou, clip_boxes_to_image

from featlift.detectors.batch_transform import BatchTransform
from featlift.detectors.extractor import Extractor
from featlift.detectors.rcnn import PyramidRoIAlign, build_anchor_generator, roi_pooling_levels, rpn_top_n
from featlift.features import Features

IOU_THRESHOLDS = (0.5, 0.6, 0.7)
BBOX_REG_WEIGHTS = ((10.0, 10.0, 5.0, 5.0), (20.0, 20.0, 10.0, 10.0), (30.0, 30.0, 15.0, 15.0))
NormLayer = Callable[[int], nn.Module]
Target = dict[str, Tensor]


class CascadeStage(nn.Module):
    """One box head of the cascade: classes, and one box for all of them.

    Args:
        head: pooled RoIs ``[R, C, 7, 7]`` → ``[R, width]``.
        fc_dim: what the head gives.
        num_classes: K, without background.
        iou_threshold: overlap from which a box counts as an object.
        bbox_reg_weights: weights of the four box offsets; the later the stage, the finer.
    """

    def __init__(
        self, head: nn.Module, fc_dim: int, num_classes: int, iou_threshold: float, bbox_reg_weights: tuple[float, ...]
    ):
        super().__init__()
        self.head = head
        self.predictor = FastRCNNPredictor(fc_dim, num_classes + 1)
        self.predictor.bbox_pred = nn.Linear(fc_dim, 4)
        self.proposal_matcher = Matcher(iou_threshold, iou_threshold, allow_low_quality_matches=False)
        self.box_coder = BoxCoder(bbox_reg_weights)  # type: ignore[arg-type]

    def forward(self, pooled: Tensor) -> tuple[Tensor, Tensor]:
        """``[R, C, 7, 7]`` → class logits ``[R, K + 1]`` and box offsets ``[R, 4]``."""
        return self.predictor(self.head(pooled))

    def refine_boxes(
        self, offsets: Tensor, boxes: Sequence[Tensor], image_sizes: Sequence[tuple[int, int]]
    ) -> list[Tensor]:
        """The boxes ``[R_i, 4]`` of each picture moved by ``offsets [ΣR, 4]`` and clipped to its size, without gradient."""
        moved = self.box_coder.decode(offsets.detach(), list(boxes))[:, 0].split([len(b) for b in boxes])
        return [clip_boxes_to_image(b, size) for b, size in zip(moved, image_sizes, strict=True)]

    def assign_targets(self, boxes: Tensor, target: Target) -> tuple[Tensor, Tensor]:
        """What this stage should say of ``boxes [R, 4]``: labels ``[R]``, 0 for background, and offsets ``[R, 4]``."""
        if not len(target["boxes"]):
            return target["labels"].new_zeros(len(boxes)), torch.zeros_like(boxes)
        matched = self.proposal_matcher(box_iou(target["boxes"], boxes))
        labels = target["labels"][matched.clamp(min=0)].masked_fill(matched < 0, 0)
        return labels, self.box_coder.encode([target["boxes"][matched.clamp(min=0)].to(boxes)], [boxes])[0]


class CascadeRoIHeads(RoIHeads):
    """The RoI heads of Cascade R-CNN under torchvision's contract.

    Args:
        stages: the box heads, in order; the first also says which proposals are sampled.
        box_roi_pool: pools what every stage reads.
        mask_modules: ``mask_roi_pool``, ``mask_head`` and ``mask_predictor`` as in torchvision's ``RoIHeads``; empty draws none.
    """

    box_roi_pool: Any
    mask_roi_pool: Any
    mask_head: Any
    mask_predictor: Any

    def __init__(self, stages: Sequence[CascadeStage], box_roi_pool: nn.Module, mask_modules: dict[str, nn.Module]):
        settings: dict[str, Any] = {
            "fg_iou_thresh": IOU_THRESHOLDS[0],
            "bg_iou_thresh": IOU_THRESHOLDS[0],
            "batch_size_per_image": 512,
            "positive_fraction": 0.25,
            "bbox_reg_weights": BBOX_REG_WEIGHTS[0],
            "score_thresh": 0.05,
            "nms_thresh": 0.5,
            "detections_per_img": 100,
        }
        super().__init__(box_roi_pool, None, None, **settings, **mask_modules)
        self.stages = nn.ModuleList(stages)

    def forward(
        self,
        features: Features,
        proposals: list[Tensor],
        image_shapes: list[tuple[int, int]],
        targets: list[Target] | None = None,
    ) -> tuple[list[dict[str, Tensor]], dict[str, Tensor]]:
        """Level → ``[B, C, H, W]`` and boxes ``[R, 4]`` per picture → in training ``([], losses)``, else ``(detections, {})``."""
        if self.training:
            return [], self._compute_losses(features, proposals, image_shapes, targets)
        detections = self._detect(features, proposals, image_shapes)
        if self.has_mask() and detections:
            pooled = self.mask_roi_pool(features, [d["boxes"] for d in detections], image_shapes)
            logits = self.mask_predictor(self.mask_head(pooled))
            for detection, masks in zip(
                detections, maskrcnn_inference(logits, [d["labels"] for d in detections]), strict=True
            ):
                detection["masks"] = masks
        return detections, {}

    def _compute_losses(
        self, features: Features, proposals: list[Tensor], image_sizes: list[tuple[int, int]], targets: Any
    ) -> dict[str, Tensor]:
        boxes, matched, labels, offsets = self.select_training_samples(proposals, targets)
        losses = self._mask_loss(features, boxes, matched, labels, image_sizes, targets) if self.has_mask() else {}
        for number, stage in enumerate(self.stages):
            if number:
                answers = [stage.answers(b, t) for b, t in zip(boxes, targets, strict=True)]  # type: ignore[operator]
                labels, offsets = [list(column) for column in zip(*answers, strict=True)]
            logits, predicted = stage(
                _scale_gradient(self.box_roi_pool(features, boxes, image_sizes), len(self.stages))
            )
            classes, regression = fastrcnn_loss(logits, predicted.tile(logits.shape[1]), labels, offsets)
            losses |= {f"loss_classifier_{number}": classes, f"loss_box_reg_{number}": regression}
            boxes = [_remove_empty_boxes(b) for b in stage.refined(predicted, boxes, image_sizes)]  # type: ignore[operator]
        return losses

    def _mask_loss(
        self, features: Features, boxes: Any, matched: Any, labels: Any, image_sizes: Any, targets: Any
    ) -> dict[str, Tensor]:
        boxes, matched = zip(
            *[(b[n > 0], m[n > 0]) for b, m, n in zip(boxes, matched, labels, strict=True)], strict=True
        )
        logits = self.mask_predictor(self.mask_head(self.mask_roi_pool(features, list(boxes), image_sizes)))
        masks, classes = [t["masks"] for t in targets], [t["labels"] for t in targets]
        return {"loss_mask": maskrcnn_loss(logits, boxes, masks, classes, matched)}

    def _detect(
        self, features: Features, boxes: list[Tensor], image_sizes: list[tuple[int, int]]
    ) -> list[dict[str, Tensor]]:
        scores = []
        for stage in self.stages:
            logits, offsets = stage(self.box_roi_pool(features, boxes, image_sizes))
            scores.append(logits.softmax(dim=-1))
            boxes = stage.refined(offsets, boxes, image_sizes)  # type: ignore[operator]
        mean = torch.stack(scores).mean(dim=0)
        still = mean.new_zeros(len(mean), 4 * mean.shape[1])  # the boxes are final: no offset is left
        found = self.postprocess_detections(mean.log(), still, boxes, image_sizes)
        return [{"boxes": b, "scores": s, "labels": n} for b, s, n in zip(*found, strict=True)]


def _scale_gradient(x: Tensor, num_stages: int) -> Tensor:
    """``x``, of whose gradient each stage passes on its share: the stages together pull no harder than one head would."""
    return x.detach() + (x - x.detach()) / num_stages


def _remove_empty_boxes(boxes: Tensor) -> Tensor:
    return boxes[(boxes[:, 2:] > boxes[:, :2]).all(dim=1)]


def cascade_rcnn(
    extractor: Extractor,
    num_classes: int,
    test_size: tuple[int, int] | None = None,
    anchor_scale: float = 8.0,
    fc_dim: int = 1024,
    num_proposals: int = 1000,
    num_convs: int = 0,
    norm_layer: NormLayer | None = None,
) -> FasterRCNN:
    """Cascade R-CNN; boxes only.

    Args:
        extractor: the papers' F.
        num_classes: K, without background; labels are 1 … K.
        test_size: (short side, longest side) for evaluation; None keeps each picture's size.
        anchor_scale: anchor side in strides: 8 gives 32 … 512 px on p2 … p6, and 4 the same on the p3 … p7 of a BiFPN.
        fc_dim: of the fully connected layers of the box heads.
        num_proposals: kept per picture in evaluation; twice as many in training.
        num_convs: 0 for box heads of two fully connected layers; 4 for four convolutions and one (the ResNeSt rows).
        norm_layer: channels → the normalization after each convolution of the heads (the ResNeSt rows: synchronized batch norm).
    """
    mask_parts: dict[str, nn.Module] = {}
    return _build_cascade(
        extractor,
        _build_heads(extractor, num_classes, fc_dim, num_convs, norm_layer, mask_parts),
        anchor_scale,
        num_proposals,
        test_size,
    )


def cascade_mask_rcnn(
    extractor: Extractor,
    num_classes: int,
    test_size: tuple[int, int] | None = None,
    anchor_scale: float = 8.0,
    fc_dim: int = 1024,
    num_proposals: int = 1000,
    num_convs: int = 0,
    norm_layer: NormLayer | None = None,
) -> FasterRCNN:
    """:func:`cascade_rcnn` and Mask R-CNN's mask head, which is trained on the proposals of the first stage."""
    channels = extractor.out_channels
    mask_parts = {
        "mask_roi_pool": PyramidRoIAlign(roi_pooling_levels(extractor), 14),
        "mask_head": MaskRCNNHeads(channels, (channels,) * 4, 1, norm_layer),
        "mask_predictor": MaskRCNNPredictor(channels, channels, num_classes + 1),
    }
    return _build_cascade(
        extractor,
        _build_heads(extractor, num_classes, fc_dim, num_convs, norm_layer, mask_parts),
        anchor_scale,
        num_proposals,
        test_size,
    )


def _build_heads(
    extractor: Extractor,
    num_classes: int,
    fc_dim: int,
    num_convs: int,
    norm_layer: NormLayer | None,
    mask_modules: dict[str, nn.Module],
) -> CascadeRoIHeads:
    channels = extractor.out_channels
    connected = [fc_dim] if num_convs else [fc_dim, fc_dim]
    stages = [
        CascadeStage(
            FastRCNNConvFCHead((channels, 7, 7), [channels] * num_convs, connected, norm_layer),
            fc_dim,
            num_classes,
            iou,
            precision,
        )
        for iou, precision in zip(IOU_THRESHOLDS, BBOX_REG_WEIGHTS, strict=True)
    ]
    return CascadeRoIHeads(stages, PyramidRoIAlign(roi_pooling_levels(extractor), 7), mask_modules)


def _build_cascade(
    extractor: Extractor,
    heads: CascadeRoIHeads,
    anchor_scale: float,
    num_proposals: int,
    test_size: tuple[int, int] | None,
) -> FasterRCNN:
    detector = FasterRCNN(
        extractor,
        rpn_anchor_generator=build_anchor_generator(extractor.levels, anchor_scale),
        box_roi_pool=heads.box_roi_pool,
        box_head=nn.Identity(),
        box_predictor=nn.Identity(),
        **{**rpn_top_n(num_proposals), "rpn_post_nms_top_n_train": 2 * num_proposals},
    )
    detector.roi_heads = heads
    detector.transform = BatchTransform(extractor.mean, test_size, extractor.size_divisible)
    return detector
