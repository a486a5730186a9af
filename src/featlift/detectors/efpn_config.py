"""An EFPN from words: which extension, who reads it, and how; built on a detector that exists."""

from dataclasses import dataclass, field
from typing import Any

import torch
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN

from featlift.detectors import Detector, get_extractor
from featlift.detectors.efpn import DuplicateRouting, EFPNRoIHeads, ExclusiveRouting, ExtendedExtractor, extend_detector
from featlift.detectors.sparse_level import DenseReader, SparseReader
from featlift.interpolators import interpolator
from featlift.pyramids.efpn import ExtendedLevel, texture_transfer

ROUTINGS = {"exclusive": ExclusiveRouting, "duplicate": DuplicateRouting}
EXTENSION_INITS = ("detector", "random")


@dataclass(frozen=True)
class ExtendedLevelConfig:
    """The extended level and who reads it.

    Attributes:
        transfer: what makes p3x: "ftt" (narrow), "ftt-256", "authors" (width 512), "paper-literal", "espcn", or any interpolator.
        transfer_options: its arguments, such as {"width": 64}.
        upsampler: what doubles p3x on the way to p2x: any interpolator; the paper's is "nearest".
        small_roi_size: RoIs with √(w·h) below it, in px of the resized picture, are read from p2x: 56 on TT100K, 112 on COCO.
        routing: "exclusive" (the paper), or "duplicate": small RoIs are judged by both heads (the release, when it detects).
        ohem_per_image: small RoIs per picture that the new head learns from (OHEM; the paper does not say how many).
        init: "detector" begins the extension with the weights of the pyramid's own finest step, "random" as the release does.
        tile_size: side in cells of stride 8 of the tiles in which p2x is computed at detection; 0 computes the whole map.
        prefilter_score: when detecting, p2x is read only at small RoIs in which the old head sees an object with this chance (such as 0.02);
            0 reads it at all of them (the paper).
    """

    transfer: str = "ftt"
    transfer_options: dict[str, Any] = field(default_factory=dict)
    upsampler: str = "nearest"
    small_roi_size: float = 56.0
    routing: str = "exclusive"
    ohem_per_image: int = 128
    init: str = "detector"
    tile_size: int = 0
    prefilter_score: float = 0.0

    def __post_init__(self) -> None:
        if self.routing not in ROUTINGS:
            raise ValueError(f"Unknown routing '{self.routing}'; choose {' or '.join(ROUTINGS)}.")
        if self.init not in EXTENSION_INITS:
            raise ValueError(f"Unknown start '{self.init}'; choose {' or '.join(EXTENSION_INITS)}.")
        with torch.device("meta"):
            texture_transfer(self.transfer, 32, **self.transfer_options)
            interpolator(self.upsampler, 32)


def build_efpn(detector: Detector, config: ExtendedLevelConfig) -> GeneralizedRCNN:
    """T on the parts of M, with a new extension; it reads whole maps, as training needs them."""
    F = get_extractor(detector)
    channels, given = F.out_channels, F.pyramid.in_channels
    finest: int = next(iter(given.values()))  # type: ignore[assignment, operator, union-attr]
    made = texture_transfer(config.transfer, channels, **config.transfer_options)
    extension = ExtendedLevel(finest, channels, made, interpolator(config.upsampler, channels))
    return extend_detector(
        detector, extension, ROUTINGS[config.routing](config.small_roi_size), DenseReader, config.ohem_per_image
    )  # type: ignore[arg-type]


def configure_inference(model: GeneralizedRCNN, config: ExtendedLevelConfig) -> None:
    """Let T read p2x in windows and after a glance, if ``config`` wants it, where training needed the whole map."""
    F, heads = efpn_modules(model)
    heads.prefilter_score = config.prefilter_score
    heads.roi_reader = (
        SparseReader(F.extended_levels, config.tile_size) if config.tile_size else DenseReader(F.extended_levels)
    )


def efpn_modules(model: GeneralizedRCNN) -> tuple[ExtendedExtractor, EFPNRoIHeads]:
    """F with its extension, and the two heads."""
    assert isinstance(model.backbone, ExtendedExtractor)
    assert isinstance(model.roi_heads, EFPNRoIHeads)
    return model.backbone, model.roi_heads
