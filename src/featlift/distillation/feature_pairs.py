"""Two views of a picture, at full and at half size, and what is compared between them (AFI-GAN Secs. 4.1 and 4.2, Tables 7 and 8).

`resolution` says what halving is; here is what AFI-GAN's first two stages show to F, G and M.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torchvision.models.detection.image_list import ImageList

from featlift.data.augment import Flip
from featlift.detectors import Detector, Extractor, interpolators_of
from featlift.detectors.batch_transform import Canvas
from featlift.distillation.feature_cache import Kept
from featlift.features import Features, stride
from featlift.resolution import cross_resolution, shrink, shrink_features, shrink_targets

Target = dict[str, Tensor]
Batch = tuple[list[Tensor], list[Target]]
Look = Callable[[list[Tensor]], Features]


@dataclass(frozen=True)
class Halving:
    """How the half-size view is made.

    Attributes:
        images: degradation of the picture: "bilinear" (the paper), "nearest", "bicubic" (Table 8).
        features: of F's maps in stage 2: "bilinear" (the paper's figure), "nearest" (the published code; half a cell off).
        original: make the small view from the picture before it was resized, as the published code does: sharper than half of it.
        same_flip: both views share their flip; the published code draws it for each, so that half of the pairs are mirrored.
    """

    images: str = "bilinear"
    features: str = "bilinear"
    original: bool = False
    same_flip: bool = True


def half(images: list[Tensor], targets: list[Target], halving: Halving) -> tuple[list[Tensor], list[Target]]:
    """The pictures and targets at half the size, mirrored anew if the views do not share their flip."""
    small = [t["half"] for t in targets] if halving.original else shrink(images, 0.5, halving.images)
    boxes = shrink_targets(targets, images, 0.5)
    if halving.same_flip:
        return small, boxes
    pairs = [Flip(0.5)(image, t, torch.default_generator) for image, t in zip(small, boxes, strict=True)]
    return [image for image, _ in pairs], [t for _, t in pairs]


def chosen(features: Features, levels: Sequence[str]) -> Features:
    """Those of ``levels`` that are there; all, if none is named."""
    return {level: x for level, x in features.items() if level in levels} if levels else features


def looking(F: Extractor | Kept) -> Look:
    """F as what looks at pictures ``[3, H, W]`` of any sizes: they are padded into one batch."""
    canvas = Canvas(F.mean)
    return lambda images: F(canvas(images)[0].tensors)


def doubled(G: nn.ModuleList, features: Features) -> Features:
    """Every level ``[B, C, H, W]`` at ``[B, C, 2H, 2W]``, each by the interpolator that doubles it in an FPN (p5 is the first)."""
    return {level: G[min(max(6 - stride(level).bit_length(), 0), len(G) - 1)](x) for level, x in features.items()}


@dataclass(frozen=True)
class Seen:
    """What a step of stage 2 works on: what M was shown, with its ``boxes``; M's ``features`` of it; ``student`` and ``target`` maps."""

    batch: ImageList
    boxes: list[Target]
    features: Features
    student: Features
    target: Features


def same_levels(F: Look, M: Detector, shown: Batch, halving: Halving) -> Seen:
    """The paper's: M's pyramid of the half-size picture against the halved pyramid of F; boxes are halved."""
    batch, boxes = M.transform(*half(*shown, halving))
    features, target = cross_resolution(
        teacher=lambda images: shrink_features(F(images), halving.features),
        student=lambda _: M.backbone(batch.tensors),
        image=shown[0],
        shrink=lambda _: shown[0],
    )
    return Seen(batch, boxes, features, features, target)


def different_levels(F: Look, M: Detector, shown: Batch, halving: Halving) -> Seen:
    """Table 7's other row: both see the picture in full, and M's level i, doubled by M's own G, is compared with F's level i - 1."""
    batch, boxes = M.transform(*shown)
    features, target = cross_resolution(
        teacher=F,
        student=lambda _: M.backbone(batch.tensors),
        image=shown[0],
        shrink=lambda _: shown[0],
    )
    finer = {f"p{stride(level).bit_length() - 2}": level for level in list(features)[1:]}
    student = doubled(interpolators_of(M), {level: features[level] for level in finer.values()})
    return Seen(batch, boxes, features, {name: student[level] for name, level in finer.items()}, target)


SEMANTICS: dict[str, Callable[[Look, Detector, Batch, Halving], Seen]] = {
    "same": same_levels,
    "different": different_levels,
}
