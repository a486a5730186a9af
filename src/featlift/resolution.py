"""One picture at two resolutions: the idea that all five papers share.

*The teacher sees the picture, the student only the shrunken picture; both answer with features of the same names.*
"""

import copy
from collections.abc import Callable, Sequence
from types import MethodType
from typing import TypeVar

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

from featlift.features import Features

_ImageT = TypeVar("_ImageT")
_ModuleT = TypeVar("_ModuleT", bound=nn.Module)
Target = dict[str, Tensor]

DOWNSCALE_MODES = ("bilinear", "nearest", "bicubic")


def cross_resolution(
    teacher: Callable[[_ImageT], Features],
    student: Callable[[_ImageT], Features],
    image: _ImageT,
    downscale: Callable[[_ImageT], _ImageT],
) -> tuple[Features, Features]:
    """``(student(shrink(image)), teacher(image))``; the teacher's answer carries no graph.

    Whatever ``image`` is (a tensor ``[B, 3, H, W]``, a list of ``[3, H, W]``), ``teacher``, ``student`` and ``downscale`` agree on it.
    """
    with torch.no_grad():
        target = teacher(image)
    return student(downscale(image)), target


def freeze(module: _ModuleT) -> _ModuleT:
    """Stops ``module`` for ever: in evaluation mode, its parameters without gradient.

    ``train()`` on it, or on a module that holds it, does not bring it (or its batch-norm statistics) back to life. Gradients still flow
    *through* it to its input. Returns ``module``.
    """
    module.eval().requires_grad_(False)
    for part in module.modules():
        part.train = MethodType(_ignore_train_mode, part)  # a bound method, so that a copy answers for itself
    return module


def frozen_copy(module: _ModuleT) -> _ModuleT:
    """A copy of ``module``, stopped by :func:`freeze`; the original learns on."""
    return freeze(copy.deepcopy(module))


def _ignore_train_mode(module: _ModuleT, mode: bool = True) -> _ModuleT:
    return module


def downscale_images(images: Sequence[Tensor], scale: float = 0.5, mode: str = "bilinear") -> list[Tensor]:
    """Each picture ``[3, H, W]`` of ``images`` at ``[3, ⌊H·scale⌋, ⌊W·scale⌋]`` (at least 1 px a side), values kept in 0…1.

    ``mode`` is the degradation of AFI-GAN's Table 8: "bilinear" (the paper's; for scale ½ it is the mean of 2x2 pixels), "nearest" or
    "bicubic" (antialiased, as Pillow does it).

    Raises:
        ValueError: if ``scale`` is not in (0, 1] or ``mode`` is unknown.
    """
    if not 0 < scale <= 1:
        raise ValueError(f"scale is {scale}; shrinking needs a factor above 0 and at most 1 (0.5 halves each side).")
    if mode not in DOWNSCALE_MODES:
        raise ValueError(f"Unknown degradation '{mode}'; choose one of {', '.join(DOWNSCALE_MODES)}.")
    return [_downscale_image(image, scale, mode) for image in images]


def _downscale_image(image: Tensor, scale: float, mode: str) -> Tensor:
    size, whole = _downscaled_size(image.shape[-2:], scale)
    image = image[..., : whole[0], : whole[1]]
    if mode == "nearest":
        return nnf.interpolate(image[None], size=size, mode="nearest")[0]
    options = {"antialias": True} if mode == "bicubic" else {}
    return nnf.interpolate(image[None], size=size, mode=mode, align_corners=False, **options)[0].clamp(0, 1)


def _downscaled_size(size: Sequence[int], scale: float) -> tuple[tuple[int, int], tuple[int, int]]:
    """The shrunken size, and the part of the picture it shows: a last odd row would shift the whole grid by half a pixel."""
    small = [max(1, int(side * scale)) for side in size]
    shown = [min(side, round(less / scale)) for side, less in zip(size, small, strict=True)]
    return (small[0], small[1]), (shown[0], shown[1])


def downscale_features(features: Features, mode: str = "bilinear") -> Features:
    """Each map ``[B, C, H, W]`` at ``[B, C, ⌊H/2⌋, ⌊W/2⌋]``: the target of AFI-GAN's stage 2 (its figure says bilinear).

    ``mode="nearest"`` takes the even rows and columns, as the published code does; that is half a cell off the student's grid.
    A map with a single row or column keeps it.
    """
    return {name: _downscale_map(x, mode) for name, x in features.items()}


def _downscale_map(x: Tensor, mode: str) -> Tensor:
    height, width = x.shape[-2:]
    kernel = (2 if height > 1 else 1, 2 if width > 1 else 1)
    if mode == "nearest":
        return x[..., :: kernel[0], :: kernel[1]][..., : max(1, height // 2), : max(1, width // 2)]
    return nnf.avg_pool2d(x, kernel)  # = bilinear ½ without antialiasing, for every even size


PER_OBJECT_KEYS = ("boxes", "labels", "masks", "area", "iscrowd", "keypoints")


def downscale_targets(
    targets: Sequence[Target], images: Sequence[Tensor], scale: float = 0.5, min_box_size: float = 1.0
) -> list[Target]:
    """The targets of ``images`` (boxes ``xyxy`` in their pixels), in the pixels of ``shrink(images, scale)``.

    Boxes are clipped to the small picture, and those with a side under ``min_box_size`` of its pixels are left out together with their label
    and mask; a picture may end without objects.
    """
    return [
        _downscale_target(t, image.shape[-2:], scale, min_box_size) for t, image in zip(targets, images, strict=True)
    ]


def _downscale_target(target: Target, size: Sequence[int], scale: float, min_box_size: float) -> Target:
    (height, width), whole = _downscaled_size(size, scale)
    factors = [width / whole[1], height / whole[0]]
    boxes = target["boxes"] * target["boxes"].new_tensor(factors * 2)
    boxes = boxes.clamp(min=0).minimum(boxes.new_tensor([width, height] * 2))
    keep = ((boxes[:, 2:] - boxes[:, :2]) >= min_box_size).all(dim=1)
    small = {name: value[keep] if name in PER_OBJECT_KEYS else value for name, value in target.items()}
    small["boxes"] = boxes[keep]
    if "keypoints" in small:
        small["keypoints"] = small["keypoints"] * small["keypoints"].new_tensor([*factors, 1])
    if "area" in small:
        small["area"] = small["area"] * (height * width) / (whole[0] * whole[1])
    if "masks" in small:
        small["masks"] = _downscale_masks(small["masks"][..., : whole[0], : whole[1]], (height, width))
    return small


def _downscale_masks(masks: Tensor, size: tuple[int, int]) -> Tensor:
    if not len(masks):
        return masks.new_zeros((0, *size))
    soft = nnf.interpolate(masks[:, None].float(), size=size, mode="bilinear", align_corners=False)[:, 0]
    return (soft >= 0.5).to(masks.dtype)
