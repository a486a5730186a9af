"""Cascade R-CNN (Cai and Vasconcelos, CVPR 2018) on any extractor, with and without masks, built from torchvision's modules.

Three box heads with increasing IoU thresholds (0.5, 0.6, 0.7), each trained on the boxes refined by the previous head; class-agnostic
boxes, 2,000 proposals in training. The losses are AFI-GAN's Eq. (4), with box terms for each stage.
"""

from collections.abc import Callable

from torch import nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.faster_rcnn import FastRCNNConvFCHead
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor

from featlift.detectors.batch_transform import BatchTransform
from featlift.detectors.cascade_heads import BBOX_REG_WEIGHTS, IOU_THRESHOLDS, CascadeRoIHeads, CascadeStage
from featlift.detectors.extractor import Extractor
from featlift.detectors.norms import norm_layer
from featlift.detectors.rcnn import PyramidRoIAlign, build_anchor_generator, roi_pooling_levels, rpn_top_n

NormLayer = Callable[[int], nn.Module]


def cascade_rcnn(
    extractor: Extractor,
    num_classes: int,
    test_size: tuple[int, int] | None = None,
    anchor_scale: float = 8.0,
    fc_dim: int = 1024,
    num_proposals: int = 1000,
    num_convs: int = 0,
    norm: str = "none",
) -> FasterRCNN:
    """Cascade R-CNN without masks.

    Args:
        extractor: Feature extractor F of the papers.
        num_classes: Number of classes K without background; labels are 1 … K.
        test_size: (shortest side, longest side) in pixels for evaluation; None keeps the image size.
        anchor_scale: Anchor side in strides: 8 gives 32 … 512 pixels on p2 … p6; 4 gives the same on p3 … p7 of a BiFPN.
        fc_dim: Features of the fully connected layers of the box heads.
        num_proposals: Proposals per image in evaluation; twice as many in training.
        num_convs: 0 for box heads with two fully connected layers; 4 for four convolutions and one fully connected layer (ResNeSt and
            Swin rows).
        norm: Normalization after each convolution of the heads, "none", "batch", "sync" or "group" (ResNeSt and Swin rows: "sync").
    """
    return _build_cascade(
        extractor,
        _build_heads(extractor, num_classes, fc_dim, num_convs, norm_layer(norm), {}),
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
    norm: str = "none",
) -> FasterRCNN:
    """:func:`cascade_rcnn` with Mask R-CNN's mask head, which is trained on the proposals of the first stage."""
    channels = extractor.out_channels
    mask_modules: dict[str, nn.Module] = {
        "mask_roi_pool": PyramidRoIAlign(roi_pooling_levels(extractor), 14),
        "mask_head": MaskRCNNHeads(channels, (channels,) * 4, 1, norm_layer(norm)),
        "mask_predictor": MaskRCNNPredictor(channels, channels, num_classes + 1),
    }
    return _build_cascade(
        extractor,
        _build_heads(extractor, num_classes, fc_dim, num_convs, norm_layer(norm), mask_modules),
        anchor_scale,
        num_proposals,
        test_size,
    )


def _build_heads(
    extractor: Extractor,
    num_classes: int,
    fc_dim: int,
    num_convs: int,
    norm: NormLayer | None,
    mask_modules: dict[str, nn.Module],
) -> CascadeRoIHeads:
    channels = extractor.out_channels
    fc_dims = [fc_dim] if num_convs else [fc_dim, fc_dim]
    stages = [
        CascadeStage(
            FastRCNNConvFCHead((channels, 7, 7), [channels] * num_convs, fc_dims, norm),
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
