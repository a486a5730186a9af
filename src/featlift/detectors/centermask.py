"""CenterMask (Lee and Park, CVPR 2020) on any extractor: FCOS finds, a spatially attentive head draws, another guesses how well.

Losses of AFI-GAN's Eq. (7): those of FCOS (Eq. 6), the mean binary cross entropy of the mask, and half the squared error of the
guessed mask IoU. A detection keeps two scores: ``scores`` ranks its box, ``mask_scores`` = score · guessed IoU its mask.
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
    """FCOS in the place of a region proposal network: what it finds is what masks are drawn for.

    Args:
        dense: FCOS; its ``detections_per_img`` is how many are handed on, in training too.
    """

    def __init__(self, dense: FCOS):
        super().__init__()
        dense.backbone = nn.Identity()  # its maps come from the detector around it
        self.dense = dense

    def forward(
        self, images: ImageList, features: Features, targets: Sequence[Target] | None = None
    ) -> tuple[list[Detection], dict[str, Tensor]]:
        """Maps ``[B, C, H, W]`` → detections per picture (boxes ``[N, 4]``, scores, labels) and, in training, the losses of Eq. (6)."""
        outputs = dense_outputs(self.dense, images, features)
        losses = dense_losses(self.dense, outputs, targets or []) if self.training else {}
        with torch.no_grad():
            return dense_detections(self.dense, outputs, images), losses


class AreaRatioLevelMapper:
    """A RoI's level by the share of the picture it covers: ``⌈last - log2(A_picture / A_RoI)⌉`` (CenterMask Eq. 1, in areas).

    Args:
        levels: names of the maps, fine → coarse.
        image_sizes: (height, width) of each picture.
    """

    def __init__(self, levels: Sequence[str], image_sizes: Sequence[tuple[int, int]]):
        self.min_level, self.max_level = (level_stride(level).bit_length() - 1 for level in (levels[0], levels[-1]))
        self.image_areas = [height * width for height, width in image_sizes]

    def __call__(self, boxes: list[Tensor]) -> Tensor:
        """Boxes ``[R_i, 4]`` xyxy of each picture → index of the map ``[ΣR]``."""
        shares = torch.cat([box_area(b) / area for b, area in zip(boxes, self.image_areas, strict=True)])
        level = torch.ceil(self.max_level + torch.log2(shares.clamp(min=1e-12)))
        return level.clamp(self.min_level, self.max_level).long() - self.min_level


class AreaRatioRoIAlign(PyramidRoIAlign):
    """RoI pooling whose levels are chosen by :class:`AreaRatioLevelMapper`. Arguments as for :class:`~featlift.detectors.rcnn.PyramidRoIAlign`."""

    def forward(self, x: Features, boxes: list[Tensor], image_shapes: list[tuple[int, int]]) -> Tensor:
        """Level → ``[B, C, H, W]``, boxes ``[R_i, 4]`` per picture, sizes (height, width) → ``[ΣR, C, side, side]``."""
        self.map_levels = AreaRatioLevelMapper(self.featmap_names, image_shapes)  # type: ignore[assignment]
        return super().forward(x, boxes, image_shapes)


class CenterMaskRoIHeads(RoIHeads):
    """The mask heads of CenterMask under torchvision's contract for RoI heads.

    Args:
        mask_roi_pool, mask_head, mask_predictor: as in torchvision's ``RoIHeads``.
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
        parts = {"mask_roi_pool": mask_roi_pool, "mask_head": mask_head, "mask_predictor": mask_predictor}
        super().__init__(None, None, None, **sampling, **unused, **parts)
        self.mask_iou = mask_iou

    def forward(  # type: ignore[override]
        self,
        features: Features,
        proposals: list[Detection],
        image_shapes: list[tuple[int, int]],
        targets: list[Target] | None = None,
    ) -> tuple[list[Detection], dict[str, Tensor]]:
        """Level → ``[B, C, H, W]`` and what :class:`FCOSProposalNetwork` found → in training ``([], losses)``, else ``(detections, {})``.

        Detections gain ``masks [N, 1, 28, 28]`` in 0…1 and ``mask_scores [N]``.
        """
        if self.training:
            return [], self._compute_losses(features, [p["boxes"] for p in proposals], image_shapes, targets)
        labels = torch.cat([p["labels"] for p in proposals])
        pooled, logits = self._predict_masks(features, [p["boxes"] for p in proposals], image_shapes)
        masks = _select_class(logits, labels).sigmoid()[:, None]
        guessed = _select_class(self.mask_iou(pooled, masks), labels)
        counts = [len(p["boxes"]) for p in proposals]
        columns = zip(proposals, masks.split(counts), guessed.split(counts), strict=True)
        return [{**p, "masks": m, "mask_scores": p["scores"] * g.clamp(0, 1)} for p, m, g in columns], {}

    def _compute_losses(
        self, features: Features, boxes: list[Tensor], image_sizes: Any, targets: Any
    ) -> dict[str, Tensor]:
        boxes, matched, labels, _ = self.select_training_samples(boxes, targets)
        boxes = [b[n > 0] for b, n in zip(boxes, labels, strict=True)]
        matched = [m[n > 0] for m, n in zip(matched, labels, strict=True)]
        masks, classes = [t["masks"] for t in targets], [t["labels"] for t in targets]
        pooled, logits = self._predict_masks(features, boxes, image_sizes)
        chosen = _select_class(logits, torch.cat([n[n > 0] for n in labels]))
        guessed = _select_class(self.mask_iou(pooled, chosen.sigmoid()[:, None]), torch.cat([n[n > 0] for n in labels]))
        true = torch.cat(
            [
                mask_ious(c, m, b, i)
                for c, m, b, i in zip(chosen.split([len(b) for b in boxes]), masks, boxes, matched, strict=True)
            ]
        )
        return {
            "loss_mask": maskrcnn_loss(logits, boxes, masks, classes, matched),
            "loss_mask_iou": mask_iou_loss(guessed, true),
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
    """CenterMask: :func:`~featlift.detectors.dense.fcos` and masks on p3 … p5.

    Args:
        extractor: the papers' F, with levels p3 … p7.
        num_classes: K, without background; labels are 1 … K.
        test_size: (short side, longest side) for evaluation; None keeps each picture's size.
        fc_dim: of the mask-IoU head's fully connected layers.
        num_proposals: detections that masks are drawn for (the published code: 100 in training, 50 in evaluation).
    """
    channels, finder = extractor.out_channels, fcos(extractor, num_classes)
    finder.detections_per_img = num_proposals
    heads = CenterMaskRoIHeads(
        AreaRatioRoIAlign([level for level in roi_pooling_levels(extractor) if level_stride(level) <= 32], 14),
        nn.Sequential(MaskRCNNHeads(channels, (channels,) * 4, 1), SpatialAttention()),
        MaskRCNNPredictor(channels, channels, num_classes + 1),
        MaskIoUHead(channels, num_classes, fc_dim),
    )
    return GeneralizedRCNN(
        extractor,
        FCOSProposalNetwork(finder),
        heads,
        BatchTransform(extractor.mean, test_size, extractor.size_divisible),
    )
