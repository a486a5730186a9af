"""Detectors under torchvision's contract, on any extractor.

``detector("mask-rcnn", extractor, classes=80)``; what each needs below it is in :data:`DETECTOR_LABELS`.
"""

import difflib
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import nn
from torchvision.models.detection import FCOS, RetinaNet
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock

from featlift.detectors.cascade import cascade_mask_rcnn, cascade_rcnn
from featlift.detectors.centermask import centermask
from featlift.detectors.dense import fcos, retinanet
from featlift.detectors.extractor import Extractor, get_extractor, get_interpolators
from featlift.detectors.from_features import detections_from_features, losses_from_features
from featlift.detectors.rcnn import faster_rcnn, mask_rcnn
from featlift.pyramids import ConvP6P7, MaxPoolP6, pyramid_spec
from featlift.pyramids import pyramid as build_pyramid

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
    "losses_from_features",
    "num_upsampling_steps",
]


Detector = GeneralizedRCNN | RetinaNet | FCOS
"""What :func:`train_base_detector` builds: ``.transform``, ``.backbone`` (an `Extractor`), heads."""


@dataclass(frozen=True)
class DetectorSpec:
    """What a detector is built by, the backbone levels it reads, and what its pyramid adds on top (from c5's channels and C)."""

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
    if name not in DETECTORS:
        near = difflib.get_close_matches(name, DETECTORS, n=1)
        hint = f" Did you mean '{near[0]}'?" if near else ""
        raise ValueError(f"Unknown detector '{name}'.{hint} There are: {', '.join(DETECTORS)}.")
    return DETECTORS[name]


def backbone_levels(name: str, pyramid: str = "fpn") -> tuple[str, ...]:
    """The backbone levels that a detector reads on a pyramid, fine → coarse (a BiFPN reads c3, c4, c5 whatever the detector).

    Raises:
        ValueError: for an unknown name of a detector or of a pyramid.
    """
    return pyramid_spec(pyramid).backbone_levels or _get_spec(name).levels


def num_upsampling_steps(name: str, pyramid: str = "fpn") -> int:
    """How many interpolators it takes to give every step of that pyramid its own (``interpolators(…, steps=doublings_of(…))``)."""
    return pyramid_spec(pyramid).num_upsampling_steps(len(_get_spec(name).levels))


def extractor(
    name: str,
    backbone: nn.Module,
    interpolators: Sequence[nn.Module],
    channels: int = 256,
    pyramid: str = "fpn",
    norm_layer: Callable[[int], nn.Module] | None = None,
) -> Extractor:
    """The papers' F for the detector called ``name``: ``backbone`` and a pyramid whose maps are doubled by ``interpolators``.

    Args:
        name: a key of :data:`DETECTOR_LABELS`.
        backbone: with the levels of :func:`backbone_levels`, and ``channels`` (level → channels).
        interpolators: one for all steps, or one for each of :func:`num_upsampling_steps`, coarse → fine.
        channels: C of the pyramid.
        pyramid: a key of :data:`featlift.pyramids.PYRAMIDS`.
        norm_layer: channels → the normalization after the pyramid's convolutions; None is the pyramid's own (FPN and PAFPN: none).

    Raises:
        ValueError: for an unknown name, a backbone with other levels, or a wrong number of interpolators.
    """
    family, wanted = _get_spec(name), backbone_levels(name, pyramid)
    given: dict[str, int] = backbone.channels  # type: ignore[assignment]
    if tuple(given) != wanted:
        raise ValueError(
            f"'{name}' reads {', '.join(wanted)}, but the backbone gives {', '.join(given)} (pyramid '{pyramid}'): "
            f"build it with levels={wanted}."
        )
    top = None if pyramid_spec(pyramid).backbone_levels else family.extra_blocks(given["c5"], channels)
    return Extractor(backbone, build_pyramid(pyramid, given, channels, interpolators, top, norm_layer))


def detector(name: str, extractor: Extractor, num_classes: int, **options: object) -> Detector:
    """The detector called ``name`` on ``extractor``; ``options`` are those of its function (test_size, anchor_scale, width, …).

    Raises:
        ValueError: for an unknown name or option, or fewer than one class.
    """
    build = _get_spec(name).build
    known = [option for option in inspect.signature(build).parameters if option not in ("extractor", "classes")]
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise ValueError(f"'{name}' has no option {', '.join(unknown)}; it has: {', '.join(known)}.")
    if num_classes < 1:
        raise ValueError(
            f"A detector of {num_classes} classes cannot be built; give the number of classes without background."
        )
    return build(extractor, num_classes, **options)
