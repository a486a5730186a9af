"""Faster and Mask R-CNN on any extractor, built from torchvision's modules.

Defaults are Detectron2's: anchors of 8 strides (32 … 512 pixels on p2 … p6) with aspect ratios ½, 1, 2; 1,000 proposals; RoIs on p2 … p5
with canonical size 224 at level 4; class-specific boxes and masks.
"""

from collections.abc import Sequence

from torchvision.models.detection import FasterRCNN, MaskRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.ops import MultiScaleRoIAlign
from torchvision.ops.poolers import initLevelMapper

from featlift.detectors.batch_transform import BatchTransform
from featlift.detectors.extractor import Extractor
from featlift.features import level_stride

ASPECT_RATIOS = (0.5, 1.0, 2.0)


class PyramidRoIAlign(MultiScaleRoIAlign):
    """torchvision's RoI pooling with the scale of each level derived from its name.

    torchvision estimates the scales from the first batch, incorrectly if a small image was padded by more than 41 %.

    Args:
        levels: Names of consecutive levels to pool from, fine → coarse.
        output_size: Cells per side of a pooled RoI.
        sampling_ratio: Sampling points per cell and side.
    """

    def __init__(self, levels: Sequence[str], output_size: int, sampling_ratio: int = 2):
        super().__init__(list(levels), output_size, sampling_ratio)
        self.scales = [1.0 / level_stride(level) for level in levels]
        k_min, k_max = (level_stride(level).bit_length() - 1 for level in (levels[0], levels[-1]))
        self.map_levels = initLevelMapper(k_min, k_max, canonical_scale=224, canonical_level=4)


def build_anchor_generator(levels: Sequence[str], anchor_scale: float, scales_per_octave: int = 1) -> AnchorGenerator:
    """Build an anchor generator with aspect ratios ½, 1, 2.

    Args:
        levels: Names of the levels.
        anchor_scale: Smallest anchor side in strides of the level.
        scales_per_octave: Number n of anchor sides per level, ``anchor_scale · 2^(k / n)`` for k = 0 … n - 1.
    """
    sizes = tuple(
        tuple(anchor_scale * level_stride(level) * 2 ** (k / scales_per_octave) for k in range(scales_per_octave))
        for level in levels
    )
    return AnchorGenerator(sizes, (ASPECT_RATIOS,) * len(sizes))  # type: ignore[arg-type]


def roi_pooling_levels(extractor: Extractor) -> list[str]:
    """Return the levels for RoI pooling: up to p5, or up to p6 if the finest is p3 (BiFPN)."""
    max_stride = max(32, 8 * level_stride(extractor.levels[0]))
    return [level for level in extractor.levels if level_stride(level) <= max_stride]


def rpn_top_n(num_proposals: int) -> dict[str, int]:
    """Return torchvision's RPN arguments: boxes before (per level) and after non-maximum suppression, in training and evaluation."""
    return {
        "rpn_pre_nms_top_n_train": 2 * num_proposals,
        "rpn_pre_nms_top_n_test": num_proposals,
        "rpn_post_nms_top_n_train": num_proposals,
        "rpn_post_nms_top_n_test": num_proposals,
    }


def faster_rcnn(
    extractor: Extractor,
    num_classes: int,
    test_size: tuple[int, int] | None = None,
    anchor_scale: float = 8.0,
    fc_dim: int = 1024,
    num_proposals: int = 1000,
) -> FasterRCNN:
    """Faster R-CNN (Ren et al., 2015) on a pyramid; losses L_cls + L_loc + L_rpn of AFI-GAN's Eq. (4).

    Args:
        extractor: Feature extractor F of the papers.
        num_classes: Number of classes K without background; labels are 1 … K.
        test_size: (shortest side, longest side) in pixels for evaluation; None keeps the image size.
        anchor_scale: Anchor side in strides: 8 gives 32 … 512 pixels on p2 … p6; use 4 for small objects.
        fc_dim: Features of the two fully connected layers of the box head.
        num_proposals: Proposals per image; in training, twice as many per level before non-maximum suppression.
    """
    detector = FasterRCNN(
        extractor,
        rpn_anchor_generator=build_anchor_generator(extractor.levels, anchor_scale),
        box_roi_pool=PyramidRoIAlign(roi_pooling_levels(extractor), 7),
        box_head=TwoMLPHead(extractor.out_channels * 7 * 7, fc_dim),
        box_predictor=FastRCNNPredictor(fc_dim, num_classes + 1),
        **rpn_top_n(num_proposals),
    )
    detector.transform = BatchTransform(extractor.mean, test_size, extractor.size_divisible)
    return detector


def mask_rcnn(
    extractor: Extractor,
    num_classes: int,
    test_size: tuple[int, int] | None = None,
    anchor_scale: float = 8.0,
    fc_dim: int = 1024,
    num_proposals: int = 1000,
) -> MaskRCNN:
    """Mask R-CNN (He et al., 2017): :func:`faster_rcnn` with a mask head of four convolutions and a 28x28 mask per class.

    The losses are AFI-GAN's Eq. (4): cross entropy, smooth L1, the mean binary cross entropy of the mask, and the RPN losses.
    """
    channels = extractor.out_channels
    detector = MaskRCNN(
        extractor,
        rpn_anchor_generator=build_anchor_generator(extractor.levels, anchor_scale),
        box_roi_pool=PyramidRoIAlign(roi_pooling_levels(extractor), 7),
        box_head=TwoMLPHead(channels * 7 * 7, fc_dim),
        box_predictor=FastRCNNPredictor(fc_dim, num_classes + 1),
        mask_roi_pool=PyramidRoIAlign(roi_pooling_levels(extractor), 14),
        mask_head=MaskRCNNHeads(channels, (channels,) * 4, 1),
        mask_predictor=MaskRCNNPredictor(channels, channels, num_classes + 1),
        **rpn_top_n(num_proposals),
    )
    detector.transform = BatchTransform(extractor.mean, test_size, extractor.size_divisible)
    return detector
