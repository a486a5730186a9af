"""Two views of a picture, at full and at half size, and what is compared between them (AFI-GAN Secs. 4.1 and 4.2, Tables 7 and 8).

`resolution` says what halving is; here is what AFI-GAN's first two stages show to F, G and M.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torchvision.models.detection.image_list import ImageList

from featlift.data.augment import RandomHorizontalFlip
from featlift.detectors import Detector, Extractor, get_interpolators
from featlift.detectors.batch_transform import BatchTransform
from featlift.distillation.feature_cache import CachedExtractor
from featlift.features import Features, level_stride
from featlift.resolution import cross_resolution, downscale_features, downscale_images, downscale_targets

Target = dict[str, Tensor]
ImagesAndTargets = tuple[list[Tensor], list[Target]]
FeatureFunction = Callable[[list[Tensor]], Features]


@dataclass(frozen=True)
class DownscaleConfig:
    """How the half-size view is made.

    Attributes:
        image_mode: degradation of the picture: "bilinear" (the paper), "nearest", "bicubic" (Table 8).
        feature_mode: of F's maps in stage 2: "bilinear" (the paper's figure), "nearest" (the published code; half a cell off).
        from_original: make the small view from the picture before it was resized, as the published code does: sharper than half of it.
        same_flip: both views share their flip; the published code draws it for each, so that half of the pairs are mirrored.
    """

    image_mode: str = "bilinear"
    feature_mode: str = "bilinear"
    from_original: bool = False
    same_flip: bool = True


def downscale_batch(
    images: list[Tensor], targets: list[Target], downscale: DownscaleConfig
) -> tuple[list[Tensor], list[Target]]:
    """The pictures and targets at half the size, mirrored anew if the views do not share their flip."""
    small = (
        [t["half"] for t in targets] if downscale.from_original else downscale_images(images, 0.5, downscale.image_mode)
    )
    boxes = downscale_targets(targets, images, 0.5)
    if downscale.same_flip:
        return small, boxes
    pairs = [
        RandomHorizontalFlip(0.5)(image, t, torch.default_generator) for image, t in zip(small, boxes, strict=True)
    ]
    return [image for image, _ in pairs], [t for _, t in pairs]


def select_levels(features: Features, levels: Sequence[str]) -> Features:
    """Those of ``levels`` that are there; all, if none is named."""
    return {level: x for level, x in features.items() if level in levels} if levels else features


def batched_extractor(extractor: Extractor | CachedExtractor) -> FeatureFunction:
    """F as what looks at pictures ``[3, H, W]`` of any sizes: they are padded into one batch."""
    canvas = BatchTransform(extractor.mean)
    return lambda images: extractor(canvas(images)[0].tensors)


def upsample_levels(interpolators: nn.ModuleList, features: Features) -> Features:
    """Every level ``[B, C, H, W]`` at ``[B, C, 2H, 2W]``, each by the interpolator that doubles it in an FPN (p5 is the first)."""
    return {
        level: interpolators[min(max(6 - level_stride(level).bit_length(), 0), len(interpolators) - 1)](x)
        for level, x in features.items()
    }


@dataclass(frozen=True)
class FeaturePair:
    """What a step of stage 2 works on: what M was shown, with its ``targets``; M's ``features`` of it; ``student`` and ``teacher`` maps."""

    images: ImageList
    targets: list[Target]
    features: Features
    student: Features
    teacher: Features


def pair_same_levels(
    extract: FeatureFunction, detector: Detector, views: ImagesAndTargets, downscale: DownscaleConfig
) -> FeaturePair:
    """The paper's: M's pyramid of the half-size picture against the halved pyramid of F; boxes are halved."""
    batch, boxes = detector.transform(*downscale_batch(*views, downscale))
    features, target = cross_resolution(
        teacher=lambda images: downscale_features(extract(images), downscale.feature_mode),
        student=lambda _: detector.backbone(batch.tensors),
        image=views[0],
        downscale=lambda _: views[0],
    )
    return FeaturePair(batch, boxes, features, features, target)


def pair_different_levels(
    extract: FeatureFunction, detector: Detector, views: ImagesAndTargets, downscale: DownscaleConfig
) -> FeaturePair:
    """Table 7's other row: both see the picture in full, and M's level i, doubled by M's own G, is compared with F's level i - 1."""
    batch, boxes = detector.transform(*views)
    features, target = cross_resolution(
        teacher=extract,
        student=lambda _: detector.backbone(batch.tensors),
        image=views[0],
        downscale=lambda _: views[0],
    )
    finer = {f"p{level_stride(level).bit_length() - 2}": level for level in list(features)[1:]}
    student = upsample_levels(get_interpolators(detector), {level: features[level] for level in finer.values()})
    return FeaturePair(batch, boxes, features, {name: student[level] for name, level in finer.items()}, target)


LEVEL_MATCHINGS: dict[str, Callable[[FeatureFunction, Detector, ImagesAndTargets, DownscaleConfig], FeaturePair]] = {
    "same": pair_same_levels,
    "different": pair_different_levels,
}
