"""Full- and half-size views of images and the feature pairs compared in distillation (AFI-GAN, Secs. 4.1 and 4.2, Tables 7 and 8).

:mod:`featlift.resolution` defines the downscaling; this module builds the inputs of AFI-GAN's first two stages for F, G and M.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torchvision.models.detection.image_list import ImageList

from featlift.data.augment import RandomHorizontalFlip
from featlift.detectors import Detector, Extractor, get_extractor
from featlift.detectors.batch_transform import BatchTransform
from featlift.distillation.feature_cache import CachedExtractor
from featlift.features import Features, Target, level_stride
from featlift.pyramids import MaxPoolP6
from featlift.resolution import cross_resolution, downscale_features, downscale_images, downscale_targets
from featlift.training.learner import not_compiled

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


def downscale_views(images: list[Tensor], targets: list[Target], downscale: DownscaleConfig) -> list[Tensor]:
    """Return the half-size images of `downscale_batch` without computing their targets, which waits for a GPU."""
    if downscale.same_flip:
        return _halve_images(images, targets, downscale)
    return downscale_batch(images, targets, downscale)[0]


def downscale_batch(
    images: list[Tensor], targets: list[Target], downscale: DownscaleConfig
) -> tuple[list[Tensor], list[Target]]:
    """Downscale images and targets by 2; flip them independently if the views do not share their flip."""
    small_images = _halve_images(images, targets, downscale)
    small_targets = downscale_targets(targets, images, 0.5)
    if downscale.same_flip:
        return small_images, small_targets
    return _flip_each(small_images, small_targets)


@not_compiled
def _flip_each(images: list[Tensor], targets: list[Target]) -> tuple[list[Tensor], list[Target]]:
    flip = RandomHorizontalFlip(0.5)
    pairs = [flip(image, t, torch.default_generator) for image, t in zip(images, targets, strict=True)]
    return [image for image, _ in pairs], [t for _, t in pairs]


def _halve_images(images: list[Tensor], targets: list[Target], downscale: DownscaleConfig) -> list[Tensor]:
    if downscale.from_original:
        return [t["downscaled"] for t in targets]
    return downscale_images(images, 0.5, downscale.image_mode)


def compared_levels(extractor: nn.Module, levels: Sequence[str]) -> tuple[str, ...]:
    """Return ``levels``, or if it is empty those of ``extractor`` without the subsampled p6 of an R-CNN (AFI-GAN, Sec. 5.3: P2 … P5)."""
    extra_blocks = getattr(extractor.pyramid, "extra_blocks", None)
    subsampled = extra_blocks.added_levels if isinstance(extra_blocks, MaxPoolP6) else ()
    return tuple(levels) or tuple(level for level in extractor.levels if level not in subsampled)  # type: ignore[attr-defined]


def select_levels(features: Features, levels: Sequence[str]) -> Features:
    """Return the maps of ``levels``; all maps if ``levels`` is empty."""
    return {level: x for level, x in features.items() if level in levels} if levels else features


def batched_extractor(extractor: Extractor | CachedExtractor) -> FeatureFunction:
    """Return F as a function of images ``[3, H, W]`` of different sizes, which it pads into one batch."""
    batch_transform = BatchTransform(extractor.mean)
    return lambda images: extractor(batch_transform(images)[0].tensors)


def steps_of_levels(levels: Iterable[str], step_levels: Sequence[str], num_interpolators: int) -> dict[str, list[int]]:
    """Return level → the interpolators that upsample it in a pyramid, by their number.

    Levels that no step upsamples (the finest, and p6 of an FPN) belong to the steps of the nearest level, and steps that upsample none of
    ``levels`` to the nearest of them, so that no interpolator is left out.

    Args:
        levels: Levels to upsample.
        step_levels: Level that each upsampling step upsamples (``pyramid.upsampled_levels``).
        num_interpolators: 1, shared by all steps, or the number of steps.
    """
    levels = list(levels)
    if num_interpolators == 1:
        return {level: [0] for level in levels}
    distances = {level: [_level_distance(level, step_level) for step_level in step_levels] for level in levels}
    nearest = [min(distances[level][step] for level in levels) for step in range(len(step_levels))]
    return {
        level: [step for step, d in enumerate(row) if d == min(row) or d == nearest[step]]
        for level, row in distances.items()
    }


def _level_distance(a: str, b: str) -> int:
    """Return the number of upsampling steps between two levels."""
    return abs(level_stride(a).bit_length() - level_stride(b).bit_length())


def upsample_levels(
    interpolators: Sequence[nn.Module] | nn.ModuleList, step_levels: Sequence[str], features: Features
) -> Features:
    """Upsample every level ``[B, C, H, W]`` by its n interpolators (see :func:`steps_of_levels`): ``[n·B, C, 2H, 2W]``, in their order.

    n is 1, except in a BiFPN with one interpolator per step: there each layer has an interpolator for each level.
    """
    steps = steps_of_levels(features, step_levels, len(interpolators))
    return {level: torch.cat([interpolators[step](x) for step in steps[level]]) for level, x in features.items()}


def repeat_batch(teacher: Features, student: Features) -> Features:
    """Repeat the maps ``[B, C, H, W]`` of ``teacher`` to the batch sizes ``n·B`` of the same levels of ``student``."""
    repeats = {level: len(student[level]) // len(y) for level, y in teacher.items() if level in student}
    return {level: teacher[level] if n == 1 else teacher[level].repeat(n, 1, 1, 1) for level, n in repeats.items()}


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
    pyramid = get_extractor(detector).pyramid
    coarse_maps = {level: features[level] for level in coarse.values()}
    upsampled = upsample_levels(pyramid.interpolators, pyramid.upsampled_levels, coarse_maps)  # type: ignore[arg-type]
    student = {fine: upsampled[level] for fine, level in coarse.items()}
    return FeaturePair(batch, targets, features, student, repeat_batch(teacher, student))


LEVEL_MATCHINGS: dict[str, Callable[[FeatureFunction, Detector, ImagesAndTargets, DownscaleConfig], FeaturePair]] = {
    "same": pair_same_levels,
    "different": pair_different_levels,
}
