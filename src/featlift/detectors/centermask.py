"""CenterMask (Lee and Park, CVPR 2020) on any extractor: FCOS, a mask head with spatial attention, and a mask IoU head.

Losses of AFI-GAN's Eq. (7): those of FCOS (Eq. (6)), the mean binary cross entropy of the mask, and half the squared error of the
predicted mask IoU. A detection has two scores: ``scores`` for its box and ``mask_scores`` = score · predicted IoU for its mask.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection.fcos import FCOS
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.roi_heads import RoIHeads, maskrcnn_loss
from torchvision.ops import box_area

from featlift.detectors.batch_transform import BatchTransform
from featlift.detectors.dense import fcos
from featlift.detectors.extractor import Extractor
from featlift.detectors.from_features import Target, dense_detections, dense_losses, dense_outputs
from featlift.detectors.mask_scoring import MaskIoUHead, SpatialAttention, mask_iou_loss, mask_ious
from featlift.detectors.rcnn import PyramidRoIAlign, roi_pooling_levels
from featlift.features import Features, level_stride

Detection = dict[str, Tensor]


class FCOSProposalNetwork(nn.Module):
    """FCOS as region proposal network: its detections are the proposals of the mask head.

    Args:
        dense: FCOS; its ``detections_per_img`` is the number of proposals per image, in training as well.
    """

    def __init__(self, dense: FCOS):
        super().__init__()
        dense.backbone = nn.Identity()  # the outer detector computes the features
        self.dense = dense

    def forward(
        self, images: ImageList, features: Features, targets: Sequence[Target] | None = None
    ) -> tuple[list[Detection], dict[str, Tensor]]:
        """Level → ``[B, C, H, W]`` → detections per image (boxes ``[N, 4]``, scores, labels) and, in training, the losses of Eq. (6)."""
        outputs = dense_outputs(self.dense, images, features)
        losses = dense_losses(self.dense, outputs, targets or []) if self.training else {}
        with torch.no_grad():
            return dense_detections(self.dense, outputs, images), losses


class AreaRatioLevelMapper:
    """Assign RoIs to levels by their share of the image area: ``⌈max_level - log2(A_image / A_RoI)⌉`` (CenterMask, Eq. (1)).

    Args:
        levels: Names of the levels, fine → coarse.
        image_sizes: (height, width) of each image.
    """

    def __init__(self, levels: Sequence[str], image_sizes: Sequence[tuple[int, int]]):
        self.min_level, self.max_level = (level_stride(level).bit_length() - 1 for level in (levels[0], levels[-1]))
        self.image_areas = [height * width for height, width in image_sizes]

    def __call__(self, boxes: list[Tensor]) -> Tensor:
        """Boxes ``[R_i, 4]`` xyxy of each image → index of the level ``[ΣR]``."""
        ratios = torch.cat([box_area(b) / area for b, area in zip(boxes, self.image_areas, strict=True)])
        level = torch.ceil(self.max_level + torch.log2(ratios.clamp(min=1e-12)))
        return level.clamp(self.min_level, self.max_level).long() - self.min_level


class AreaRatioRoIAlign(PyramidRoIAlign):
    """RoI pooling with :class:`AreaRatioLevelMapper`; arguments as for :class:`~featlift.detectors.rcnn.PyramidRoIAlign`."""

    def forward(self, x: Features, boxes: list[Tensor], image_shapes: list[tuple[int, int]]) -> Tensor:
        """Level → ``[B, C, H, W]``, boxes ``[R_i, 4]`` per image, sizes (height, width) → ``[ΣR, C, output_size, output_size]``."""
        self.map_levels = AreaRatioLevelMapper(self.featmap_names, image_shapes)  # type: ignore[assignment]
        return super().forward(x, boxes, image_shapes)


class CenterMaskRoIHeads(RoIHeads):
    """Mask heads of CenterMask with the interface of torchvision's RoI heads.

    Args:
        mask_roi_pool: As in torchvision's ``RoIHeads``.
        mask_head: As in torchvision's ``RoIHeads``.
        mask_predictor: As in torchvision's ``RoIHeads``.
        mask_iou: :class:`~featlift.detectors.mask_scoring.MaskIoUHead`.
    """

    mask_roi_pool: Any
    mask_head: Any
    mask_predictor: Any

    def __init__(self, mask_roi_pool: nn.Module, mask_head: nn.Module, mask_predictor: nn.Module, mask_iou: nn.Module):
        sampling: Any = {
            "fg_iou_thresh": 0.5,
            "bg_iou_thresh": 0.5,
            "batch_size_per_image": 512,
            "positive_fraction": 0.25,
        }
        unused: Any = {"bbox_reg_weights": None, "score_thresh": 0.0, "nms_thresh": 1.0, "detections_per_img": 0}
        mask_modules = {"mask_roi_pool": mask_roi_pool, "mask_head": mask_head, "mask_predictor": mask_predictor}
        super().__init__(None, None, None, **sampling, **unused, **mask_modules)
        self.mask_iou = mask_iou

    def forward(  # type: ignore[override]
        self,
        features: Features,
        proposals: list[Detection],
        image_shapes: list[tuple[int, int]],
        targets: list[Target] | None = None,
    ) -> tuple[list[Detection], dict[str, Tensor]]:
        """Level → ``[B, C, H, W]`` and detections of :class:`FCOSProposalNetwork` → losses in training, detections in evaluation.

        Returns:
            ``([], losses)`` in training; ``(detections, {})`` in evaluation, with additional ``masks [N, 1, 28, 28]`` in 0…1 and
            ``mask_scores [N]``.
        """
        if self.training:
            return [], self._compute_losses(features, [p["boxes"] for p in proposals], image_shapes, targets)
        labels = torch.cat([p["labels"] for p in proposals])
        pooled, logits = self._predict_masks(features, [p["boxes"] for p in proposals], image_shapes)
        masks = _select_class(logits, labels).sigmoid()[:, None]
        ious = _select_class(self.mask_iou(pooled, masks), labels)
        counts = [len(p["boxes"]) for p in proposals]
        columns = zip(proposals, masks.split(counts), ious.split(counts), strict=True)
        return [{**p, "masks": m, "mask_scores": p["scores"] * iou.clamp(0, 1)} for p, m, iou in columns], {}

    def _compute_losses(
        self, features: Features, boxes: list[Tensor], image_sizes: Any, targets: Any
    ) -> dict[str, Tensor]:
        boxes, matched_idxs, labels, _ = self.select_training_samples(boxes, targets)
        boxes = [b[n > 0] for b, n in zip(boxes, labels, strict=True)]
        matched_idxs = [m[n > 0] for m, n in zip(matched_idxs, labels, strict=True)]
        positive_labels = torch.cat([n[n > 0] for n in labels])
        gt_masks, gt_labels = [t["masks"] for t in targets], [t["labels"] for t in targets]
        pooled, logits = self._predict_masks(features, boxes, image_sizes)
        class_logits = _select_class(logits, positive_labels)
        predicted_ious = _select_class(self.mask_iou(pooled, class_logits.sigmoid()[:, None]), positive_labels)
        columns = zip(class_logits.split([len(b) for b in boxes]), gt_masks, boxes, matched_idxs, strict=True)
        target_ious = torch.cat([mask_ious(*column) for column in columns])
        return {
            "loss_mask": maskrcnn_loss(logits, boxes, gt_masks, gt_labels, matched_idxs),
            "loss_mask_iou": mask_iou_loss(predicted_ious, target_ious),
        }

    def _predict_masks(self, features: Features, boxes: list[Tensor], image_sizes: Any) -> tuple[Tensor, Tensor]:
        pooled = self.mask_roi_pool(features, boxes, image_sizes)
        return pooled, self.mask_predictor(self.mask_head(pooled))


def _select_class(x: Tensor, labels: Tensor) -> Tensor:
    return x[torch.arange(len(x), device=x.device), labels]


def centermask(
    extractor: Extractor,
    num_classes: int,
    test_size: tuple[int, int] | None = None,
    fc_dim: int = 1024,
    num_proposals: int = 100,
) -> GeneralizedRCNN:
    """CenterMask: :func:`~featlift.detectors.dense.fcos` with a mask branch on p3 … p5.

    Args:
        extractor: Feature extractor F of the papers, with levels p3 … p7.
        num_classes: Number of classes K without background; labels are 1 … K.
        test_size: (shortest side, longest side) in pixels for evaluation; None keeps the image size.
        fc_dim: Features of the fully connected layers of the mask IoU head.
        num_proposals: Detections per image with a mask (published code: 100 in training, 50 in evaluation).
    """
    channels, dense = extractor.out_channels, fcos(extractor, num_classes)
    dense.detections_per_img = num_proposals
    heads = CenterMaskRoIHeads(
        AreaRatioRoIAlign([level for level in roi_pooling_levels(extractor) if level_stride(level) <= 32], 14),
        nn.Sequential(MaskRCNNHeads(channels, (channels,) * 4, 1), SpatialAttention()),
        MaskRCNNPredictor(channels, channels, num_classes + 1),
        MaskIoUHead(channels, num_classes, fc_dim),
    )
    return GeneralizedRCNN(
        extractor,
        FCOSProposalNetwork(dense),
        heads,
        BatchTransform(extractor.mean, test_size, extractor.size_divisible),
    )
