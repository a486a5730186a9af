"""RetinaNet and FCOS on any extractor, from torchvision's own parts.

Differences from Detectron2's heads, which the papers used, are torchvision's: one class row more (the background; switched off here),
box regression by L1 (RetinaNet) and GIoU (FCOS), centerness on the box tower.
"""

from typing import Any

import torch
from torchvision.models.detection import FCOS, RetinaNet

from featlift.detectors.batch_transform import BatchTransform
from featlift.detectors.extractor import Extractor
from featlift.detectors.fcos_head import CellCenterAnchors, fcos_head
from featlift.detectors.rcnn import build_anchor_generator

SCORE_THRESHOLD = 0.05


def retinanet(
    extractor: Extractor, num_classes: int, test_size: tuple[int, int] | None = None, anchor_scale: float = 4.0
) -> RetinaNet:
    """RetinaNet (Lin et al., ICCV 2017): nine anchors per cell. Losses of AFI-GAN's Eq. (5): focal, and L1 for the boxes.

    Args:
        extractor: the papers' F, with levels p3 … p7.
        num_classes: K, without background; labels are 1 … K.
        test_size: (short side, longest side) for evaluation; None keeps each picture's size.
        anchor_scale: smallest anchor side in strides: 4 gives 32 … 813 px on p3 … p7.
    """
    detector = RetinaNet(
        extractor,
        num_classes + 1,
        anchor_generator=build_anchor_generator(extractor.levels, anchor_scale, scales_per_octave=3),
        score_thresh=SCORE_THRESHOLD,
        detections_per_img=100,
    )
    detector.transform = BatchTransform(extractor.mean, test_size, extractor.size_divisible)
    _disable_background_class(detector.head, num_classes)
    return detector


def fcos(extractor: Extractor, num_classes: int, test_size: tuple[int, int] | None = None) -> FCOS:
    """FCOS (Tian et al., ICCV 2019): anchor-free; every cell says how far the sides of its object are.

    Losses of AFI-GAN's Eq. (6): focal, generalized IoU of the boxes (the paper says IoU, its code GIoU), cross entropy of the centerness.

    Args:
        extractor: the papers' F, with levels p3 … p7; its channels are a multiple of 32 or, below 64, of 2.
        num_classes: K, without background; labels are 1 … K.
        test_size: (short side, longest side) for evaluation; None keeps each picture's size.

    Raises:
        ValueError: if the extractor's channels cannot be normalized in 32 groups or, below 64, in pairs.
    """
    detector = FCOS(
        extractor,
        num_classes + 1,
        anchor_generator=CellCenterAnchors(extractor.levels),
        head=fcos_head(extractor.out_channels, len(extractor.levels), num_classes),
        score_thresh=SCORE_THRESHOLD,
        detections_per_img=100,
    )
    detector.transform = BatchTransform(extractor.mean, test_size, extractor.size_divisible)
    _disable_background_class(detector.head, num_classes)
    return detector


def _disable_background_class(head: Any, num_classes: int) -> None:
    """Row 0 of every anchor, which torchvision trains towards "no" like all others, says it from the start: no detection has label 0."""
    with torch.no_grad():
        head.classification_head.cls_logits.bias.view(-1, num_classes + 1)[:, 0] = -1e4
