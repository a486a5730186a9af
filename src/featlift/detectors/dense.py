"""RetinaNet and FCOS on any extractor, built from torchvision's modules.

Differences from Detectron2's heads, which the papers used, are torchvision's: an additional background class (disabled here), box
regression by L1 (RetinaNet) and GIoU (FCOS), centerness on the box tower.
"""

from typing import Any

import torch
from torchvision.models.detection import FCOS, RetinaNet
from torchvision.models.detection.fcos import FCOSHead

from featlift.detectors.batch_transform import BatchTransform
from featlift.detectors.box_losses import CenternessWeightedHead, SmoothL1RegressionHead
from featlift.detectors.extractor import Extractor
from featlift.detectors.fcos_head import CellCenterAnchors, fcos_head
from featlift.detectors.rcnn import build_anchor_generator

SCORE_THRESHOLD = 0.05


def retinanet(
    extractor: Extractor,
    num_classes: int,
    test_size: tuple[int, int] | None = None,
    anchor_scale: float = 4.0,
    smooth_l1_beta: float = 0.0,
) -> RetinaNet:
    """RetinaNet (Lin et al., ICCV 2017) with nine anchors per cell; losses of AFI-GAN's Eq. (5): focal loss, and smooth L1 for boxes.

    Args:
        extractor: Feature extractor F of the papers, with levels p3 … p7.
        num_classes: Number of classes K without background; labels are 1 … K.
        test_size: (shortest side, longest side) in pixels for evaluation; None keeps the image size.
        anchor_scale: Smallest anchor side in strides: 4 gives 32 … 813 pixels on p3 … p7.
        smooth_l1_beta: Offset below which smooth L1 is quadratic; 0 is L1, the value of Detectron2's RetinaNet, which the papers used.

    Raises:
        ValueError: If ``smooth_l1_beta`` is negative.
    """
    if smooth_l1_beta < 0:
        raise ValueError(f"smooth_l1_beta is {smooth_l1_beta}; it must be 0 or more.")
    detector = RetinaNet(
        extractor,
        num_classes + 1,
        anchor_generator=build_anchor_generator(extractor.levels, anchor_scale, scales_per_octave=3),
        score_thresh=SCORE_THRESHOLD,
        detections_per_img=100,
    )
    detector.transform = BatchTransform(extractor.mean, test_size, extractor.size_divisible)
    if smooth_l1_beta:
        num_anchors = detector.anchor_generator.num_anchors_per_location()[0]
        detector.head.regression_head = SmoothL1RegressionHead(extractor.out_channels, num_anchors, smooth_l1_beta)
    _disable_background_class(detector.head, num_classes)
    return detector


def fcos(
    extractor: Extractor,
    num_classes: int,
    test_size: tuple[int, int] | None = None,
    centerness_weighting: bool = False,
) -> FCOS:
    """FCOS (Tian et al., ICCV 2019): anchor-free; every cell predicts its distances to the sides of its object.

    Losses of AFI-GAN's Eq. (6): focal loss, generalized IoU of boxes (IoU in the paper, GIoU in its code), cross entropy of centerness.

    Args:
        extractor: Feature extractor F of the papers, with levels p3 … p7; channels are a multiple of 32 or, below 64, of 2.
        num_classes: Number of classes K without background; labels are 1 … K.
        test_size: (shortest side, longest side) in pixels for evaluation; None keeps the image size.
        centerness_weighting: Weight the GIoU loss by the centerness of each cell, as in the published code; not in the text.

    Raises:
        ValueError: If the extractor's channels cannot be normalized in 32 groups or, below 64, in pairs.
    """
    head_class = CenternessWeightedHead if centerness_weighting else FCOSHead
    detector = FCOS(
        extractor,
        num_classes + 1,
        anchor_generator=CellCenterAnchors(extractor.levels),
        head=fcos_head(extractor.out_channels, len(extractor.levels), num_classes, head_class),
        score_thresh=SCORE_THRESHOLD,
        detections_per_img=100,
    )
    detector.transform = BatchTransform(extractor.mean, test_size, extractor.size_divisible)
    _disable_background_class(detector.head, num_classes)
    return detector


def _disable_background_class(head: Any, num_classes: int) -> None:
    """Set the bias of the background class of every anchor to -1e4, so that no detection has label 0."""
    with torch.no_grad():
        head.classification_head.cls_logits.bias.view(-1, num_classes + 1)[:, 0] = -1e4
