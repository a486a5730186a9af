"""Cascade R-CNN (Cai and Vasconcelos, CVPR 2018) on any extractor, with and without masks, built from torchvision's modules.

Three box heads with increasing IoU thresholds (0.5, 0.6, 0.7), each trained on the boxes refined by the previous head; class-agnostic
boxes, 2,000 proposals in training. The losses are AFI-GAN's Eq. (4), with box terms for each stage.
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
from featlift.features import Features, Target

IOU_THRESHOLDS = (0.5, 0.6, 0.7)
BBOX_REG_WEIGHTS = ((10.0, 10.0, 5.0, 5.0), (20.0, 20.0, 10.0, 10.0), (30.0, 30.0, 15.0, 15.0))
NormLayer = Callable[[int], nn.Module]


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
    """Cascade R-CNN without masks.

    Args:
        extractor: Feature extractor F of the papers.
        num_classes: Number of classes K without background; labels are 1 … K.
        test_size: (shortest side, longest side) in pixels for evaluation; None keeps the image size.
        anchor_scale: Anchor side in strides: 8 gives 32 … 512 pixels on p2 … p6; 4 gives the same on p3 … p7 of a BiFPN.
        fc_dim: Features of the fully connected layers of the box heads.
        num_proposals: Proposals per image in evaluation; twice as many in training.
        num_convs: 0 for box heads with two fully connected layers; 4 for four convolutions and one fully connected layer (ResNeSt rows).
        norm_layer: Channels → normalization after each convolution of the heads (ResNeSt rows: synchronized batch norm).
    """
    return _build_cascade(
        extractor,
        _build_heads(extractor, num_classes, fc_dim, num_convs, norm_layer, {}),
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
    """:func:`cascade_rcnn` with Mask R-CNN's mask head, which is trained on the proposals of the first stage."""
    channels = extractor.out_channels
    mask_modules: dict[str, nn.Module] = {
        "mask_roi_pool": PyramidRoIAlign(roi_pooling_levels(extractor), 14),
        "mask_head": MaskRCNNHeads(channels, (channels,) * 4, 1, norm_layer),
        "mask_predictor": MaskRCNNPredictor(channels, channels, num_classes + 1),
    }
    return _build_cascade(
        extractor,
        _build_heads(extractor, num_classes, fc_dim, num_convs, norm_layer, mask_modules),
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
    fc_dims = [fc_dim] if num_convs else [fc_dim, fc_dim]
    stages = [
        CascadeStage(
            FastRCNNConvFCHead((channels, 7, 7), [channels] * num_convs, fc_dims, norm_layer),
            fc_dim,
            num_classes,
            iou_threshold,
            bbox_reg_weights,
        )
        for iou_threshold, bbox_reg_weights in zip(IOU_THRESHOLDS, BBOX_REG_WEIGHTS, strict=True)
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
