"""Configuration of an EFPN and its construction from an existing detector."""

from dataclasses import dataclass, field
from typing import Any

import torch
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN

from featlift.detectors import Detector, get_extractor
from featlift.detectors.efpn import DuplicateRouting, EFPNRoIHeads, ExclusiveRouting, ExtendedExtractor, extend_detector
from featlift.detectors.sparse_level import DenseReader, SparseReader
from featlift.interpolators import interpolator
from featlift.pyramids.efpn import EXTENSION_INPUTS, MERGES, ExtendedLevel
from featlift.pyramids.texture_transfers import texture_transfer
from featlift.registry import check_choice

ROUTINGS = {"exclusive": ExclusiveRouting, "duplicate": DuplicateRouting}
EXTENSION_INITS = ("detector", "random")


@dataclass(frozen=True)
class ExtendedLevelConfig:
    """Configuration of the extended level and of the RoIs that use it.

    Attributes:
        transfer: Texture transfer that computes p3x: "ftt" (narrow), "ftt-256", "ftt-512" (the release), "ftt-paper", "espcn", or any
            interpolator.
        transfer_options: Options of the transfer, such as {"hidden_channels": 64}.
        upsampler: Interpolator that upsamples p3x by 2 for p2x; "nearest" in the paper.
        inputs: Inputs of the transfer and target of p3x: "inner", the top-down maps (release), or "outputs", P3 and P2 (text).
        merge: Path to p2x: "convolutions", a 1x1 convolution on c2x and a 3x3 after the sum (release), or "sum", Eq. (1) as printed.
        small_roi_size: RoIs with √(w·h) below this, in pixels of the resized image, are pooled from p2x: 56 on TT100K, 112 on COCO.
        routing: "exclusive": small RoIs go to the new head only (paper); "duplicate": to both heads (release, at inference).
        ohem_per_image: Number of small RoIs per image that train the new head (OHEM; not given in the paper).
        init: Initial weights of the extension: "detector" copies the pyramid's finest step, "random" is as in the release.
        tile_size: Side of the tiles in which p2x is computed at inference, in stride-8 cells; 0 computes the whole map.
        prefilter_score: At inference, p2x is used only for small RoIs with at least this foreground probability in the old head (such as
            0.02); 0 uses it for all small RoIs (paper).
    """

    transfer: str = "ftt"
    transfer_options: dict[str, Any] = field(default_factory=dict)
    upsampler: str = "nearest"
    inputs: str = "inner"
    merge: str = "convolutions"
    small_roi_size: float = 56.0
    routing: str = "exclusive"
    ohem_per_image: int = 128
    init: str = "detector"
    tile_size: int = 0
    prefilter_score: float = 0.0

    def __post_init__(self) -> None:
        check_choice(self.routing, ROUTINGS, "routing")
        check_choice(self.init, EXTENSION_INITS, "init")
        check_choice(self.inputs, EXTENSION_INPUTS, "inputs")
        check_choice(self.merge, MERGES, "merge")
        with torch.device("meta"):
            texture_transfer(self.transfer, 32, **self.transfer_options)
            interpolator(self.upsampler, 32)


def build_efpn(detector: Detector, config: ExtendedLevelConfig) -> GeneralizedRCNN:
    """Build an EFPN that shares the modules of ``detector`` and has a new extension; it computes the whole p2x, as training requires."""
    extractor = get_extractor(detector)
    channels, in_channels = extractor.out_channels, extractor.pyramid.in_channels
    c2_channels: int = next(iter(in_channels.values()))  # type: ignore[assignment, operator, union-attr]
    transfer = texture_transfer(config.transfer, channels, **config.transfer_options)
    upsampler = interpolator(config.upsampler, channels)
    extension = ExtendedLevel(c2_channels, channels, transfer, upsampler, config.merge, config.inputs)
    routing = ROUTINGS[config.routing](config.small_roi_size)
    return extend_detector(detector, extension, routing, DenseReader, config.ohem_per_image)  # type: ignore[arg-type]


def configure_inference(model: GeneralizedRCNN, config: ExtendedLevelConfig) -> None:
    """Set the tile size and the prefilter of ``config`` for inference, in place; training computes the whole p2x."""
    extractor, heads = efpn_modules(model)
    extend = extractor.extended_levels
    heads.prefilter_score = config.prefilter_score
    heads.roi_reader = SparseReader(extend, config.tile_size) if config.tile_size else DenseReader(extend)


def efpn_modules(model: GeneralizedRCNN) -> tuple[ExtendedExtractor, EFPNRoIHeads]:
    """Return the extended extractor and the RoI heads of an EFPN."""
    assert isinstance(model.backbone, ExtendedExtractor)
    assert isinstance(model.roi_heads, EFPNRoIHeads)
    return model.backbone, model.roi_heads
