"""An EFPN from words: which extension, who reads it, and how; built on a detector that exists."""

from dataclasses import dataclass, field
from typing import Any

import torch
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN

from featlift.detectors import Detector, extractor_of
from featlift.detectors.efpn import Duplicate, Exclusive, ExtendedExtractor, TwoHeads, extend
from featlift.detectors.sparse_level import WholeMap, Windows
from featlift.interpolators import interpolator
from featlift.pyramids.efpn import Extension, transfer

ROUTINGS = {"exclusive": Exclusive, "duplicate": Duplicate}
STARTS = ("detector", "random")


@dataclass(frozen=True)
class Finer:
    """The extended level and who reads it.

    Attributes:
        transfer: what makes p3x: "ftt" (narrow), "ftt-256", "authors" (width 512), "paper-literal", "espcn", or any interpolator.
        transfer_options: its arguments, such as {"width": 64}.
        doubling: what doubles p3x on the way to p2x: any interpolator; the paper's is "nearest".
        limit: RoIs with √(w·h) below it, in px of the resized picture, are read from p2x: 56 on TT100K, 112 on COCO.
        routing: "exclusive" (the paper), or "duplicate": small RoIs are judged by both heads (the release, when it detects).
        hard: small RoIs per picture that the new head learns from (OHEM; the paper does not say how many).
        start: "detector" begins the extension with the weights of the pyramid's own finest step, "random" as the release does.
        tile: side in cells of stride 8 of the tiles in which p2x is computed at detection; 0 computes the whole map.
        glance: when detecting, p2x is read only at small RoIs in which the old head sees an object with this chance (such as 0.02);
            0 reads it at all of them (the paper).
    """

    transfer: str = "ftt"
    transfer_options: dict[str, Any] = field(default_factory=dict)
    doubling: str = "nearest"
    limit: float = 56.0
    routing: str = "exclusive"
    hard: int = 128
    start: str = "detector"
    tile: int = 0
    glance: float = 0.0

    def __post_init__(self) -> None:
        if self.routing not in ROUTINGS:
            raise ValueError(f"Unknown routing '{self.routing}'; choose {' or '.join(ROUTINGS)}.")
        if self.start not in STARTS:
            raise ValueError(f"Unknown start '{self.start}'; choose {' or '.join(STARTS)}.")
        with torch.device("meta"):
            transfer(self.transfer, 32, **self.transfer_options)
            interpolator(self.doubling, 32)


def extended(M: Detector, finer: Finer) -> GeneralizedRCNN:
    """T on the parts of M, with a new extension; it reads whole maps, as training needs them."""
    F = extractor_of(M)
    channels, given = F.out_channels, F.pyramid.in_channels
    finest: int = next(iter(given.values()))  # type: ignore[assignment, operator, union-attr]
    made = transfer(finer.transfer, channels, **finer.transfer_options)
    extension = Extension(finest, channels, made, interpolator(finer.doubling, channels))
    return extend(M, extension, ROUTINGS[finer.routing](finer.limit), WholeMap, finer.hard)  # type: ignore[arg-type]


def read_as(T: GeneralizedRCNN, finer: Finer) -> None:
    """Let T read p2x in windows and after a glance, if ``finer`` wants it, where training needed the whole map."""
    F, heads = parts(T)
    heads.glance = finer.glance
    heads.reader = Windows(F.extended, finer.tile) if finer.tile else WholeMap(F.extended)


def parts(T: GeneralizedRCNN) -> tuple[ExtendedExtractor, TwoHeads]:
    """F with its extension, and the two heads."""
    assert isinstance(T.backbone, ExtendedExtractor)
    assert isinstance(T.roi_heads, TwoHeads)
    return T.backbone, T.roi_heads
