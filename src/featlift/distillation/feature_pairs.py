"""Full- and half-size views of images and the feature pairs compared in distillation (AFI-GAN, Secs. 4.1 and 4.2, Tables 7 and 8).

:mod:`featlift.resolution` defines the downscaling; this module builds the inputs of AFI-GAN's first two stages for F, G and M.
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
from featlift.features import Features, Target, level_stride
from featlift.resolution import cross_resolution, downscale_features, downscale_images, downscale_targets

ImagesAndTargets = tuple[list[Tensor], list[Target]]
FeatureFunction = Callable[[list[Tensor]], Features]


@dataclass(frozen=True)
class DownscaleConfig:
    """Settings of the half-size view.

    Attributes:
        image_mode: Interpolation of the image: "bilinear" (the paper), "nearest" or "bicubic" (Table 8).
        feature_mode: Interpolation of F's maps in stage 2: "bilinear" (the paper's figure) or "nearest" (published code; half a cell off).
        from_original: Downscale the image before its resizing, as the published code does; sharper than downscaling the resized image.
        same_flip: Flip both views alike; the published code flips them independently, so that half of the pairs are mirrored.
    """

    image_mode: str = "bilinear"
    feature_mode: str = "bilinear"
    from_original: bool = False
    same_flip: bool = True


def downscale_batch(
    images: list[Tensor], targets: list[Target], downscale: DownscaleConfig
) -> tuple[list[Tensor], list[Target]]:
    """Downscale images and targets by 2; flip them independently if the views do not share their flip."""
    if downscale.from_original:
        small_images = [t["downscaled"] for t in targets]
    else:
        small_images = downscale_images(images, 0.5, downscale.image_mode)
    small_targets = downscale_targets(targets, images, 0.5)
    if downscale.same_flip:
        return small_images, small_targets
    flip = RandomHorizontalFlip(0.5)
    pairs = [flip(image, t, torch.default_generator) for image, t in zip(small_images, small_targets, strict=True)]
    return [image for image, _ in pairs], [t for _, t in pairs]


def select_levels(features: Features, levels: Sequence[str]) -> Features:
    """Return the maps of ``levels``; all maps if ``levels`` is empty."""
    return {level: x for level, x in features.items() if level in levels} if levels else features


def batched_extractor(extractor: Extractor | CachedExtractor) -> FeatureFunction:
    """Return F as a function of images ``[3, H, W]`` of different sizes, which it pads into one batch."""
    batch_transform = BatchTransform(extractor.mean)
    return lambda images: extractor(batch_transform(images)[0].tensors)


def upsample_levels(interpolators: nn.ModuleList, features: Features) -> Features:
    """Upsample every level ``[B, C, H, W]`` to ``[B, C, 2H, 2W]`` with the interpolator of its FPN step (p5 is the first)."""
    return {
        level: interpolators[min(max(6 - level_stride(level).bit_length(), 0), len(interpolators) - 1)](x)
        for level, x in features.items()
    }


@dataclass(frozen=True)
class FeaturePair:
    """Inputs of a step of stage 2.

    Attributes:
        images: Batch of M's images.
        targets: Targets of ``images``.
        features: M's pyramid of ``images``.
        student: Student maps to compare with ``teacher``.
        teacher: Teacher maps.
    """

    images: ImageList
    targets: list[Target]
    features: Features
    student: Features
    teacher: Features


def pair_same_levels(
    extract: FeatureFunction, detector: Detector, views: ImagesAndTargets, downscale: DownscaleConfig
) -> FeaturePair:
    """Pair M's pyramid of the half-size image with F's downscaled pyramid (the paper); the boxes are downscaled, too."""
    batch, targets = detector.transform(*downscale_batch(*views, downscale))
    features, teacher = cross_resolution(
        teacher=lambda images: downscale_features(extract(images), downscale.feature_mode),
        student=lambda _: detector.backbone(batch.tensors),
        image=views[0],
        downscale=lambda _: views[0],
    )
    return FeaturePair(batch, targets, features, features, teacher)


def pair_different_levels(
    extract: FeatureFunction, detector: Detector, views: ImagesAndTargets, downscale: DownscaleConfig
) -> FeaturePair:
    """Pair M's level i, upsampled by M's own G, with F's level i - 1, both of the full-size image (the other row of Table 7)."""
    batch, targets = detector.transform(*views)
    features, teacher = cross_resolution(
        teacher=extract,
        student=lambda _: detector.backbone(batch.tensors),
        image=views[0],
        downscale=lambda _: views[0],
    )
    coarse = {f"p{level_stride(level).bit_length() - 2}": level for level in list(features)[1:]}
    upsampled = upsample_levels(get_interpolators(detector), {level: features[level] for level in coarse.values()})
    return FeaturePair(batch, targets, features, {fine: upsampled[level] for fine, level in coarse.items()}, teacher)


LEVEL_MATCHINGS: dict[str, Callable[[FeatureFunction, Detector, ImagesAndTargets, DownscaleConfig], FeaturePair]] = {
    "same": pair_same_levels,
    "different": pair_different_levels,
}
