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

from featlift.detectors.batch_transform import Canvas
from featlift.detectors.extractor import Extractor
from featlift.detectors.rcnn import RoIAlign, anchors, proposals_kept, roi_levels
from featlift.features import Features

IOUS = (0.5, 0.6, 0.7)
PRECISIONS = ((10.0, 10.0, 5.0, 5.0), (20.0, 20.0, 10.0, 10.0), (30.0, 30.0, 15.0, 15.0))
Norm = Callable[[int], nn.Module]
Target = dict[str, Tensor]


class Stage(nn.Module):
    """One box head of the cascade: classes, and one box for all of them.

    Args:
        head: pooled RoIs ``[R, C, 7, 7]`` → ``[R, width]``.
        width: what the head gives.
        classes: K, without background.
        iou: overlap from which a box counts as an object.
        precision: weights of the four box offsets; the later the stage, the finer.
    """

    def __init__(self, head: nn.Module, width: int, classes: int, iou: float, precision: tuple[float, ...]):
        super().__init__()
        self.head = head
        self.predictor = FastRCNNPredictor(width, classes + 1)
        self.predictor.bbox_pred = nn.Linear(width, 4)
        self.matcher = Matcher(iou, iou, allow_low_quality_matches=False)
        self.coder = BoxCoder(precision)  # type: ignore[arg-type]

    def forward(self, pooled: Tensor) -> tuple[Tensor, Tensor]:
        """``[R, C, 7, 7]`` → class logits ``[R, K + 1]`` and box offsets ``[R, 4]``."""
        return self.predictor(self.head(pooled))

    def refined(self, offsets: Tensor, boxes: Sequence[Tensor], sizes: Sequence[tuple[int, int]]) -> list[Tensor]:
        """The boxes ``[R_i, 4]`` of each picture moved by ``offsets [ΣR, 4]`` and clipped to its size, without gradient."""
        moved = self.coder.decode(offsets.detach(), list(boxes))[:, 0].split([len(b) for b in boxes])
        return [clip_boxes_to_image(b, size) for b, size in zip(moved, sizes, strict=True)]

    def answers(self, boxes: Tensor, target: Target) -> tuple[Tensor, Tensor]:
        """What this stage should say of ``boxes [R, 4]``: labels ``[R]``, 0 for background, and offsets ``[R, 4]``."""
        if not len(target["boxes"]):
            return target["labels"].new_zeros(len(boxes)), torch.zeros_like(boxes)
        matched = self.matcher(box_iou(target["boxes"], boxes))
        labels = target["labels"][matched.clamp(min=0)].masked_fill(matched < 0, 0)
        return labels, self.coder.encode([target["boxes"][matched.clamp(min=0)].to(boxes)], [boxes])[0]


class CascadeHeads(RoIHeads):
    """The RoI heads of Cascade R-CNN under torchvision's contract.

    Args:
        stages: the box heads, in order; the first also says which proposals are sampled.
        box_roi_pool: pools what every stage reads.
        mask_parts: ``mask_roi_pool``, ``mask_head`` and ``mask_predictor`` as in torchvision's ``RoIHeads``; empty draws none.
    """

    box_roi_pool: Any
    mask_roi_pool: Any
    mask_head: Any
    mask_predictor: Any

    def __init__(self, stages: Sequence[Stage], box_roi_pool: nn.Module, mask_parts: dict[str, nn.Module]):
        settings: dict[str, Any] = {
            "fg_iou_thresh": IOUS[0],
            "bg_iou_thresh": IOUS[0],
            "batch_size_per_image": 512,
            "positive_fraction": 0.25,
            "bbox_reg_weights": PRECISIONS[0],
            "score_thresh": 0.05,
            "nms_thresh": 0.5,
            "detections_per_img": 100,
        }
        super().__init__(box_roi_pool, None, None, **settings, **mask_parts)
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
            return [], self._losses(features, proposals, image_shapes, targets)
        detections = self._detections(features, proposals, image_shapes)
        if self.has_mask() and detections:
            pooled = self.mask_roi_pool(features, [d["boxes"] for d in detections], image_shapes)
            logits = self.mask_predictor(self.mask_head(pooled))
            for detection, masks in zip(
                detections, maskrcnn_inference(logits, [d["labels"] for d in detections]), strict=True
            ):
                detection["masks"] = masks
        return detections, {}

    def _losses(
        self, features: Features, proposals: list[Tensor], sizes: list[tuple[int, int]], targets: Any
    ) -> dict[str, Tensor]:
        boxes, matched, labels, offsets = self.select_training_samples(proposals, targets)
        losses = self._mask_loss(features, boxes, matched, labels, sizes, targets) if self.has_mask() else {}
        for number, stage in enumerate(self.stages):
            if number:
                answers = [stage.answers(b, t) for b, t in zip(boxes, targets, strict=True)]  # type: ignore[operator]
                labels, offsets = [list(column) for column in zip(*answers, strict=True)]
            logits, predicted = stage(_damped(self.box_roi_pool(features, boxes, sizes), len(self.stages)))
            classes, regression = fastrcnn_loss(logits, predicted.tile(logits.shape[1]), labels, offsets)
            losses |= {f"loss_classifier_{number}": classes, f"loss_box_reg_{number}": regression}
            boxes = [_not_empty(b) for b in stage.refined(predicted, boxes, sizes)]  # type: ignore[operator]
        return losses

    def _mask_loss(
        self, features: Features, boxes: Any, matched: Any, labels: Any, sizes: Any, targets: Any
    ) -> dict[str, Tensor]:
        boxes, matched = zip(
            *[(b[n > 0], m[n > 0]) for b, m, n in zip(boxes, matched, labels, strict=True)], strict=True
        )
        logits = self.mask_predictor(self.mask_head(self.mask_roi_pool(features, list(boxes), sizes)))
        masks, classes = [t["masks"] for t in targets], [t["labels"] for t in targets]
        return {"loss_mask": maskrcnn_loss(logits, boxes, masks, classes, matched)}

    def _detections(
        self, features: Features, boxes: list[Tensor], sizes: list[tuple[int, int]]
    ) -> list[dict[str, Tensor]]:
        scores = []
        for stage in self.stages:
            logits, offsets = stage(self.box_roi_pool(features, boxes, sizes))
            scores.append(logits.softmax(dim=-1))
            boxes = stage.refined(offsets, boxes, sizes)  # type: ignore[operator]
        mean = torch.stack(scores).mean(dim=0)
        still = mean.new_zeros(len(mean), 4 * mean.shape[1])  # the boxes are final: no offset is left
        found = self.postprocess_detections(mean.log(), still, boxes, sizes)
        return [{"boxes": b, "scores": s, "labels": n} for b, s, n in zip(*found, strict=True)]


def _damped(x: Tensor, stages: int) -> Tensor:
    """``x``, of whose gradient each stage passes on its share: the stages together pull no harder than one head would."""
    return x.detach() + (x - x.detach()) / stages


def _not_empty(boxes: Tensor) -> Tensor:
    return boxes[(boxes[:, 2:] > boxes[:, :2]).all(dim=1)]


def cascade_rcnn(
    extractor: Extractor,
    classes: int,
    test_size: tuple[int, int] | None = None,
    anchor_scale: float = 8.0,
    width: int = 1024,
    proposals: int = 1000,
    convolutions: int = 0,
    norm: Norm | None = None,
) -> FasterRCNN:
    """Cascade R-CNN; boxes only.

    Args:
        extractor: the papers' F.
        classes: K, without background; labels are 1 … K.
        test_size: (short side, longest side) for evaluation; None keeps each picture's size.
        anchor_scale: anchor side in strides: 8 gives 32 … 512 px on p2 … p6, and 4 the same on the p3 … p7 of a BiFPN.
        width: of the fully connected layers of the box heads.
        proposals: kept per picture in evaluation; twice as many in training.
        convolutions: 0 for box heads of two fully connected layers; 4 for four convolutions and one (the ResNeSt rows).
        norm: channels → the normalisation after each convolution of the heads (the ResNeSt rows: synchronised batch norm).
    """
    mask_parts: dict[str, nn.Module] = {}
    return _cascade(
        extractor, _heads(extractor, classes, width, convolutions, norm, mask_parts), anchor_scale, proposals, test_size
    )


def cascade_mask_rcnn(
    extractor: Extractor,
    classes: int,
    test_size: tuple[int, int] | None = None,
    anchor_scale: float = 8.0,
    width: int = 1024,
    proposals: int = 1000,
    convolutions: int = 0,
    norm: Norm | None = None,
) -> FasterRCNN:
    """:func:`cascade_rcnn` and Mask R-CNN's mask head, which is trained on the proposals of the first stage."""
    channels = extractor.out_channels
    mask_parts = {
        "mask_roi_pool": RoIAlign(roi_levels(extractor), 14),
        "mask_head": MaskRCNNHeads(channels, (channels,) * 4, 1, norm),
        "mask_predictor": MaskRCNNPredictor(channels, channels, classes + 1),
    }
    return _cascade(
        extractor, _heads(extractor, classes, width, convolutions, norm, mask_parts), anchor_scale, proposals, test_size
    )


def _heads(
    extractor: Extractor,
    classes: int,
    width: int,
    convolutions: int,
    norm: Norm | None,
    mask_parts: dict[str, nn.Module],
) -> CascadeHeads:
    channels = extractor.out_channels
    connected = [width] if convolutions else [width, width]
    stages = [
        Stage(
            FastRCNNConvFCHead((channels, 7, 7), [channels] * convolutions, connected, norm),
            width,
            classes,
            iou,
            precision,
        )
        for iou, precision in zip(IOUS, PRECISIONS, strict=True)
    ]
    return CascadeHeads(stages, RoIAlign(roi_levels(extractor), 7), mask_parts)


def _cascade(
    extractor: Extractor, heads: CascadeHeads, anchor_scale: float, proposals: int, test_size: tuple[int, int] | None
) -> FasterRCNN:
    detector = FasterRCNN(
        extractor,
        rpn_anchor_generator=anchors(extractor.levels, anchor_scale),
        box_roi_pool=heads.box_roi_pool,
        box_head=nn.Identity(),
        box_predictor=nn.Identity(),
        **{**proposals_kept(proposals), "rpn_post_nms_top_n_train": 2 * proposals},
    )
    detector.roi_heads = heads
    detector.transform = Canvas(extractor.mean, test_size, extractor.divisible)
    return detector
