"""Detectors with torchvision's interface on any :class:`Extractor`.

Example: ``detector("mask-rcnn", extractor, num_classes=80)``. :data:`DETECTORS` lists the detectors and the levels they read.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import nn
from torchvision.models.detection import FCOS, RetinaNet
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock

from featlift.detectors.aligned import align_geometry
from featlift.detectors.cascade import cascade_mask_rcnn, cascade_rcnn
from featlift.detectors.centermask import centermask
from featlift.detectors.dense import fcos, retinanet
from featlift.detectors.detection_limit import limit_detections
from featlift.detectors.extractor import Extractor, get_extractor, get_interpolators
from featlift.detectors.from_features import detections_from_features, losses_from_features
from featlift.detectors.rcnn import faster_rcnn, mask_rcnn
from featlift.detectors.shared_masks import share_masks
from featlift.pyramids import ConvP6P7, MaxPoolP6, pyramid_spec
from featlift.pyramids import pyramid as build_pyramid
from featlift.registry import check_options, look_up

__all__ = [
    "DETECTORS",
    "Detector",
    "Extractor",
    "backbone_levels",
    "detections_from_features",
    "detector",
    "extractor",
    "get_extractor",
    "get_interpolators",
    "list_detectors",
    "losses_from_features",
    "num_upsampling_steps",
    "upsampled_levels",
]


Detector = GeneralizedRCNN | RetinaNet | FCOS
"""Return type of :func:`detector`; has ``.transform``, ``.backbone`` (an :class:`Extractor`) and heads."""


@dataclass(frozen=True)
class DetectorSpec:
    """Registry entry of a detector.

    Attributes:
        build: Function that builds the detector.
        levels: Backbone levels that it reads, fine → coarse.
        extra_blocks: (channels of c5, pyramid channels C) → module that adds the coarser levels.
    """

    build: Callable[..., Detector]
    levels: tuple[str, ...]
    extra_blocks: Callable[[int, int], ExtraFPNBlock]


RCNN_PYRAMID = (("c2", "c3", "c4", "c5"), lambda c5, channels: MaxPoolP6())
FCOS_PYRAMID = (("c3", "c4", "c5"), lambda c5, channels: ConvP6P7(channels, channels))

DETECTORS: dict[str, DetectorSpec] = {
    "faster-rcnn": DetectorSpec(faster_rcnn, *RCNN_PYRAMID),
    "mask-rcnn": DetectorSpec(mask_rcnn, *RCNN_PYRAMID),
    "cascade-rcnn": DetectorSpec(cascade_rcnn, *RCNN_PYRAMID),
    "cascade-mask-rcnn": DetectorSpec(cascade_mask_rcnn, *RCNN_PYRAMID),
    "retinanet": DetectorSpec(retinanet, ("c3", "c4", "c5"), ConvP6P7),
    "fcos": DetectorSpec(fcos, *FCOS_PYRAMID),
    "centermask": DetectorSpec(centermask, *FCOS_PYRAMID),
}


def _get_spec(name: str) -> DetectorSpec:
    return look_up(DETECTORS, name, "detector")


def list_detectors() -> list[str]:
    """Return the names that `detector` and ``--model.detector`` accept."""
    return list(DETECTORS)


def backbone_levels(name: str, pyramid: str = "fpn") -> tuple[str, ...]:
    """Return the backbone levels of a detector with a pyramid, fine → coarse (a BiFPN always reads c3, c4, c5).

    Raises:
        ValueError: For an unknown detector or pyramid.
    """
    return pyramid_spec(pyramid).backbone_levels or _get_spec(name).levels


def upsampled_levels(name: str, pyramid: str = "fpn") -> tuple[str, ...]:
    """Return the level that each upsampling step of the pyramid upsamples, in the order of its interpolators (coarse → fine)."""
    return pyramid_spec(pyramid).upsampled_levels(_get_spec(name).levels)


def num_upsampling_steps(name: str, pyramid: str = "fpn") -> int:
    """Return the number of upsampling steps of the pyramid, i.e. of interpolators if they are not shared."""
    return len(upsampled_levels(name, pyramid))


def extractor(
    name: str,
    backbone: nn.Module,
    interpolators: Sequence[nn.Module],
    channels: int = 256,
    pyramid: str = "fpn",
    norm_layer: Callable[[int], nn.Module] | None = None,
) -> Extractor:
    """Build the feature extractor F of the papers for a detector: a backbone and a pyramid with the given interpolators.

    Args:
        name: Detector, a key of :data:`DETECTORS`.
        backbone: Backbone with the levels of :func:`backbone_levels` and an attribute ``channels`` (level → channels).
        interpolators: One shared interpolator, or one for each of :func:`num_upsampling_steps`, coarse → fine.
        channels: Channels C of the pyramid.
        pyramid: Pyramid, a key of :data:`featlift.pyramids.PYRAMIDS`.
        norm_layer: Channels → normalization after the pyramid's convolutions; None uses the pyramid's default (FPN and PAFPN: none).

    Raises:
        ValueError: For an unknown name, a backbone with other levels, or a wrong number of interpolators.
    """
    spec, levels = _get_spec(name), backbone_levels(name, pyramid)
    in_channels: dict[str, int] = backbone.channels  # type: ignore[assignment]
    if tuple(in_channels) != levels:
        raise ValueError(
            f"'{name}' reads {', '.join(levels)}, but the backbone has {', '.join(in_channels)} (pyramid '{pyramid}'); "
            f"build the backbone with levels={levels}."
        )
    extra_blocks = None
    if not pyramid_spec(pyramid).backbone_levels:
        extra_blocks = spec.extra_blocks(in_channels["c5"], channels)
    return Extractor(backbone, build_pyramid(pyramid, in_channels, channels, interpolators, extra_blocks, norm_layer))


def detector(
    name: str,
    extractor: Extractor,
    num_classes: int,
    max_detections: int | None = None,
    aligned: bool = False,
    class_agnostic_masks: bool = False,
    **options: object,
) -> Detector:
    """Build the detector ``name`` for K = ``num_classes`` classes without background; labels are 1 … K.

    Args:
        name: Detector, a key of :data:`DETECTORS`.
        extractor: Feature extractor F of the papers.
        num_classes: K.
        max_detections: Maximum number of detections per image; None is COCO's 100.
        aligned: RoI pooling and anchors without torchvision's rounding, as Detectron2's (`featlift.detectors.aligned`).
        class_agnostic_masks: One mask for all classes (`featlift.detectors.shared_masks`).
        options: Options of the detector's function (test_size, anchor_scale, fc_dim, …).

    Raises:
        ValueError: For an unknown name or option, or fewer than one class.
        TypeError: If the detector has no RoI pooling, anchors or masks to which an option applies.
    """
    build = _get_spec(name).build
    check_options(name, build, options, skip=("extractor", "num_classes"))
    if num_classes < 1:
        raise ValueError(f"num_classes is {num_classes}; pass at least 1 class, without background.")
    network = build(extractor, num_classes, **options)
    if max_detections is not None:
        limit_detections(network, max_detections)
    if aligned:
        align_geometry(network)
    if class_agnostic_masks:
        share_masks(network)
    return network
