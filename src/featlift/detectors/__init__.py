"""Detectors under torchvision's contract, on any extractor.

``detector("mask-rcnn", extractor, classes=80)``; what each needs below it is in :data:`DETECTORS`.
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
from featlift.detectors.extractor import Extractor, extractor_of, interpolators_of
from featlift.detectors.from_features import detections_on, losses_on
from featlift.detectors.rcnn import faster_rcnn, mask_rcnn
from featlift.pyramids import Strided, Subsampled, kind
from featlift.pyramids import pyramid as build_pyramid

__all__ = [
    "DETECTORS",
    "Detector",
    "Extractor",
    "detections_on",
    "detector",
    "doublings_of",
    "extractor",
    "extractor_of",
    "interpolators_of",
    "levels_of",
    "losses_on",
]


Detector = GeneralizedRCNN | RetinaNet | FCOS
"""What :func:`detector` builds: ``.transform``, ``.backbone`` (an `Extractor`), heads."""


@dataclass(frozen=True)
class Family:
    """What a detector is built by, the backbone levels it reads, and what its pyramid adds on top (from c5's channels and C)."""

    build: Callable[..., Detector]
    levels: tuple[str, ...]
    top: Callable[[int, int], ExtraFPNBlock]


R_CNN = (("c2", "c3", "c4", "c5"), lambda c5, channels: Subsampled())
FCOS_LIKE = (("c3", "c4", "c5"), lambda c5, channels: Strided(channels, channels))

DETECTORS: dict[str, Family] = {
    "faster-rcnn": Family(faster_rcnn, *R_CNN),
    "mask-rcnn": Family(mask_rcnn, *R_CNN),
    "cascade-rcnn": Family(cascade_rcnn, *R_CNN),
    "cascade-mask-rcnn": Family(cascade_mask_rcnn, *R_CNN),
    "retinanet": Family(retinanet, ("c3", "c4", "c5"), Strided),
    "fcos": Family(fcos, *FCOS_LIKE),
    "centermask": Family(centermask, *FCOS_LIKE),
}


def _family(name: str) -> Family:
    if name not in DETECTORS:
        near = difflib.get_close_matches(name, DETECTORS, n=1)
        hint = f" Did you mean '{near[0]}'?" if near else ""
        raise ValueError(f"Unknown detector '{name}'.{hint} There are: {', '.join(DETECTORS)}.")
    return DETECTORS[name]


def levels_of(name: str, pyramid: str = "fpn") -> tuple[str, ...]:
    """The backbone levels that a detector reads on a pyramid, fine → coarse (a BiFPN reads c3, c4, c5 whatever the detector).

    Raises:
        ValueError: for an unknown name of a detector or of a pyramid.
    """
    return kind(pyramid).levels or _family(name).levels


def doublings_of(name: str, pyramid: str = "fpn") -> int:
    """How many interpolators it takes to give every step of that pyramid its own (``interpolators(…, steps=doublings_of(…))``)."""
    return kind(pyramid).doublings(len(_family(name).levels))


def extractor(
    name: str,
    backbone: nn.Module,
    interpolators: Sequence[nn.Module],
    channels: int = 256,
    pyramid: str = "fpn",
    norm: Callable[[int], nn.Module] | None = None,
) -> Extractor:
    """The papers' F for the detector called ``name``: ``backbone`` and a pyramid whose maps are doubled by ``interpolators``.

    Args:
        name: a key of :data:`DETECTORS`.
        backbone: with the levels of :func:`levels_of`, and ``channels`` (level → channels).
        interpolators: one for all steps, or one for each of :func:`doublings_of`, coarse → fine.
        channels: C of the pyramid.
        pyramid: a key of :data:`featlift.pyramids.PYRAMIDS`.
        norm: channels → the normalisation after the pyramid's convolutions; None is the pyramid's own (FPN and PAFPN: none).

    Raises:
        ValueError: for an unknown name, a backbone with other levels, or a wrong number of interpolators.
    """
    family, wanted = _family(name), levels_of(name, pyramid)
    given: dict[str, int] = backbone.channels  # type: ignore[assignment]
    if tuple(given) != wanted:
        raise ValueError(
            f"'{name}' reads {', '.join(wanted)}, but the backbone gives {', '.join(given)} (pyramid '{pyramid}'): "
            f"build it with levels={wanted}."
        )
    top = None if kind(pyramid).levels else family.top(given["c5"], channels)
    return Extractor(backbone, build_pyramid(pyramid, given, channels, interpolators, top, norm))


def detector(name: str, extractor: Extractor, classes: int, **options: object) -> Detector:
    """The detector called ``name`` on ``extractor``; ``options`` are those of its function (test_size, anchor_scale, width, …).

    Raises:
        ValueError: for an unknown name or option, or fewer than one class.
    """
    build = _family(name).build
    known = [option for option in inspect.signature(build).parameters if option not in ("extractor", "classes")]
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise ValueError(f"'{name}' has no option {', '.join(unknown)}; it has: {', '.join(known)}.")
    if classes < 1:
        raise ValueError(
            f"A detector of {classes} classes cannot be built; give the number of classes without background."
        )
    return build(extractor, classes, **options)
