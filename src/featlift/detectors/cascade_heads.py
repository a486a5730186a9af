"""Box heads of Cascade R-CNN (Cai and Vasconcelos, CVPR 2018): three stages with increasing IoU thresholds."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection._utils import BoxCoder, Matcher
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor
from torchvision.models.detection.roi_heads import RoIHeads, fastrcnn_loss, maskrcnn_inference, maskrcnn_loss
from torchvision.ops import box_iou, clip_boxes_to_image

from featlift.features import Features, Target

IOU_THRESHOLDS = (0.5, 0.6, 0.7)
BBOX_REG_WEIGHTS = ((10.0, 10.0, 5.0, 5.0), (20.0, 20.0, 10.0, 10.0), (30.0, 30.0, 15.0, 15.0))


class CascadeStage(nn.Module):
    """Box head of one cascade stage, with a class-agnostic box.

    Args:
        head: Pooled RoIs ``[R, C, 7, 7]`` → ``[R, fc_dim]``.
        fc_dim: Output features of the head.
        num_classes: Number of classes K without background.
        iou_threshold: IoU from which a box is a positive sample.
        bbox_reg_weights: Weights of the four box offsets.
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
        """Predict class logits ``[R, K + 1]`` and box offsets ``[R, 4]`` from pooled RoIs ``[R, C, 7, 7]``."""
        return self.predictor(self.head(pooled))

    def refine_boxes(
        self, offsets: Tensor, boxes: Sequence[Tensor], image_sizes: Sequence[tuple[int, int]]
    ) -> list[Tensor]:
        """Apply ``offsets [ΣR, 4]`` to the boxes ``[R_i, 4]`` of each image and clip them to its size, without gradient."""
        decoded = self.box_coder.decode(offsets.detach(), list(boxes))[:, 0].split([len(b) for b in boxes])
        return [clip_boxes_to_image(b, size) for b, size in zip(decoded, image_sizes, strict=True)]

    def assign_targets(self, boxes: Tensor, target: Target) -> tuple[Tensor, Tensor]:
        """Return the targets of this stage for ``boxes [R, 4]``: labels ``[R]``, 0 for background, and offsets ``[R, 4]``."""
        if not len(target["boxes"]):
            return target["labels"].new_zeros(len(boxes)), torch.zeros_like(boxes)
        matched_idxs = self.proposal_matcher(box_iou(target["boxes"], boxes))
        labels = target["labels"][matched_idxs.clamp(min=0)].masked_fill(matched_idxs < 0, 0)
        return labels, self.box_coder.encode([target["boxes"][matched_idxs.clamp(min=0)].to(boxes)], [boxes])[0]


class CascadeRoIHeads(RoIHeads):
    """RoI heads of Cascade R-CNN with torchvision's interface.

    Args:
        stages: Box heads, in order; proposals are sampled with the IoU threshold of the first.
        box_roi_pool: RoI pooling of all stages.
        mask_modules: ``mask_roi_pool``, ``mask_head`` and ``mask_predictor`` of torchvision's ``RoIHeads``; empty for no masks.
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
        """Level → ``[B, C, H, W]`` and boxes ``[R, 4]`` per image → ``([], losses)`` in training, ``(detections, {})`` in evaluation."""
        if self.training:
            return [], self._compute_losses(features, proposals, image_shapes, targets)
        detections = self._detect(features, proposals, image_shapes)
        if self.has_mask() and detections:
            pooled = self.mask_roi_pool(features, [d["boxes"] for d in detections], image_shapes)
            logits = self.mask_predictor(self.mask_head(pooled))
            masks = maskrcnn_inference(logits, [d["labels"] for d in detections])
            for detection, detection_masks in zip(detections, masks, strict=True):
                detection["masks"] = detection_masks
        return detections, {}

    def _compute_losses(
        self, features: Features, proposals: list[Tensor], image_sizes: list[tuple[int, int]], targets: Any
    ) -> dict[str, Tensor]:
        boxes, matched_idxs, labels, offsets = self.select_training_samples(proposals, targets)
        losses = {}
        if self.has_mask():
            losses = self._mask_loss(features, boxes, matched_idxs, labels, image_sizes, targets)
        for number, stage in enumerate(self.stages):
            if number:
                assigned = [stage.assign_targets(b, t) for b, t in zip(boxes, targets, strict=True)]  # type: ignore[operator]
                labels, offsets = [list(column) for column in zip(*assigned, strict=True)]
            logits, predicted = stage(
                _scale_gradient(self.box_roi_pool(features, boxes, image_sizes), len(self.stages))
            )
            classes, regression = fastrcnn_loss(logits, predicted.tile(logits.shape[1]), labels, offsets)
            losses |= {f"loss_classifier_{number}": classes, f"loss_box_reg_{number}": regression}
            boxes = [_remove_empty_boxes(b) for b in stage.refine_boxes(predicted, boxes, image_sizes)]  # type: ignore[operator]
        return losses

    def _mask_loss(
        self, features: Features, boxes: Any, matched_idxs: Any, labels: Any, image_sizes: Any, targets: Any
    ) -> dict[str, Tensor]:
        boxes, matched_idxs = zip(
            *[(b[n > 0], m[n > 0]) for b, m, n in zip(boxes, matched_idxs, labels, strict=True)], strict=True
        )
        logits = self.mask_predictor(self.mask_head(self.mask_roi_pool(features, list(boxes), image_sizes)))
        masks, classes = [t["masks"] for t in targets], [t["labels"] for t in targets]
        return {"loss_mask": maskrcnn_loss(logits, boxes, masks, classes, matched_idxs)}

    def _detect(
        self, features: Features, boxes: list[Tensor], image_sizes: list[tuple[int, int]]
    ) -> list[dict[str, Tensor]]:
        scores = []
        for stage in self.stages:
            logits, offsets = stage(self.box_roi_pool(features, boxes, image_sizes))
            scores.append(logits.softmax(dim=-1))
            boxes = stage.refine_boxes(offsets, boxes, image_sizes)  # type: ignore[operator]
        mean = torch.stack(scores).mean(dim=0)
        zero_offsets = mean.new_zeros(len(mean), 4 * mean.shape[1])  # the boxes are already refined
        results = self.postprocess_detections(mean.log(), zero_offsets, boxes, image_sizes)
        return [{"boxes": b, "scores": s, "labels": n} for b, s, n in zip(*results, strict=True)]


def _scale_gradient(x: Tensor, num_stages: int) -> Tensor:
    """Return ``x`` with its gradient divided by ``num_stages``, so that all stages together weigh as much as a single head."""
    return x.detach() + (x - x.detach()) / num_stages


def _remove_empty_boxes(boxes: Tensor) -> Tensor:
    return boxes[(boxes[:, 2:] > boxes[:, :2]).all(dim=1)]
