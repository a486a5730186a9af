"""Detection on a single map: a level of the pyramid, or a map of EFPN's extension (Table V: input, target and output of FTT)."""

import copy
from typing import Any

from torch import Tensor, nn
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN
from torchvision.models.detection.rpn import RegionProposalNetwork

from featlift.detectors.aligned import AlignedRoIAlign
from featlift.detectors.efpn import EFPNRoIHeads, ExtendedExtractor, LevelSubsetRPN
from featlift.detectors.extractor import Extractor
from featlift.detectors.rcnn import PyramidRoIAlign
from featlift.features import Features

EXTENDED_SOURCES = {"p3x": "p3", "p2x": "p2"}
"""Map of EFPN's extension → the level of the image at twice the size that it stands for, whose anchors it gets, at half their size."""


class SingleLevelExtractor(nn.Module):
    """Extractor that returns the map ``level`` only.

    EFPN's p3x with ``inputs="inner"`` stands for the map that the pyramid's 3x3 convolution smooths to p3; it is smoothed by it, too.

    Args:
        extractor: Extractor; of EFPN for p3x and p2x.
        level: Name of the map.

    Raises:
        ValueError: If there is no such map.
    """

    def __init__(self, extractor: Extractor | ExtendedExtractor, level: str):
        super().__init__()
        is_extended = isinstance(extractor, ExtendedExtractor)
        levels = [*extractor.levels, *(EXTENDED_SOURCES if is_extended else ())]
        if level not in levels:
            raise ValueError(
                f"This detector has no map '{level}'; choose one of {', '.join(levels)}. p3x and p2x are those of an EFPN."
            )
        self.extractor, self.level = extractor, level
        self.levels, self.out_channels, self.size_divisible = (level,), extractor.out_channels, extractor.size_divisible
        self.smooth: nn.Module = nn.Identity()
        if level == "p3x" and extractor.extension.inputs == "inner":  # type: ignore[union-attr]
            self.smooth = extractor.pyramid.layer_blocks[1]  # type: ignore[index]

    @property
    def mean(self) -> Tensor:
        """Color ``[1, 3, 1, 1]`` in 0…1 that the backbone maps to zero."""
        return self.extractor.mean

    def forward(self, image: Tensor) -> Features:
        """``[B, 3, H, W]`` in 0…1 → ``{level: [B, C, H', W']}``."""
        features = self.extractor(image)
        if self.level in EXTENDED_SOURCES:
            features = self.extractor.extended_levels(features)  # type: ignore[operator]
        return {self.level: self.smooth(features[self.level])}


def detect_on_level(detector: nn.Module, level: str) -> None:
    """Let an R-CNN or an EFPN detect all objects on the map ``level`` alone, in place.

    The RPN reads this map only, with the anchors of the level, and all RoIs are pooled from it. p3x and p2x stand for p3 and p2 of the
    image at twice the size: in pixels of the image their anchors are half as large. p2x is classified by EFPN's new head, all other maps
    by the old one.

    Raises:
        TypeError: If the detector is none of these.
        ValueError: If it has no such map.
    """
    has_rpn = isinstance(detector, GeneralizedRCNN) and isinstance(detector.rpn, RegionProposalNetwork | LevelSubsetRPN)
    if not has_rpn or not isinstance(detector.backbone, Extractor | ExtendedExtractor):
        raise TypeError(f"A {type(detector).__name__} has no RPN; an R-CNN or an EFPN detects on one level.")
    levels, heads = list(detector.backbone.levels), detector.roi_heads
    detector.backbone = SingleLevelExtractor(detector.backbone, level)
    rpn = detector.rpn.rpn if isinstance(detector.rpn, LevelSubsetRPN) else detector.rpn
    if isinstance(heads, EFPNRoIHeads):
        fine, heads = heads.fine, heads.coarse
        if level == "p2x":
            heads.box_head, heads.box_predictor = fine.children()  # type: ignore[assignment]
    rpn.anchor_generator = _anchors_of_level(rpn.anchor_generator, levels, level)
    for name in ("box_roi_pool", "mask_roi_pool"):
        if isinstance(pooling := getattr(heads, name), nn.Module):
            setattr(heads, name, single_level_pooling(pooling, level))
    detector.rpn, detector.roi_heads = rpn, heads


def _anchors_of_level(generator: Any, levels: list[str], level: str) -> nn.Module:
    """Return an anchor generator with the anchors of ``level`` only."""
    index, scale = levels.index(EXTENDED_SOURCES.get(level, level)), 0.5 if level in EXTENDED_SOURCES else 1.0
    single = copy.deepcopy(generator)
    single.sizes = (tuple(scale * size for size in generator.sizes[index]),)
    single.aspect_ratios = (generator.aspect_ratios[index],)
    single.cell_anchors = [scale * generator.cell_anchors[index]]
    return single


def single_level_pooling(pooling: PyramidRoIAlign | AlignedRoIAlign, level: str) -> nn.Module:
    """Return RoI pooling like ``pooling`` (output size, sampling points, alignment) that reads the map ``level`` only."""
    single = PyramidRoIAlign([level], pooling.output_size[0], pooling.sampling_ratio)
    return AlignedRoIAlign(single) if isinstance(pooling, AlignedRoIAlign) else single
