"""Cross-resolution distillation, the common principle of all five papers.

The teacher processes the image, the student the downscaled image; both return features with the same names.
"""

import copy
from collections.abc import Callable, Sequence
from types import MethodType
from typing import TypeVar

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

from featlift.features import Features, Target
from featlift.registry import check_choice

_ImageT = TypeVar("_ImageT")
_ModuleT = TypeVar("_ModuleT", bound=nn.Module)

_LUMA_WEIGHTS = (65.481, 128.553, 24.966)  # ITU-R BT.601, studio range

DOWNSCALE_MODES = ("bilinear", "nearest", "bicubic")


def cross_resolution(
    teacher: Callable[[_ImageT], Features],
    student: Callable[[_ImageT], Features],
    image: _ImageT,
    downscale: Callable[[_ImageT], _ImageT],
) -> tuple[Features, Features]:
    """Return ``(student(downscale(image)), teacher(image))``; the teacher's features have no gradient.

    ``image`` has any type that ``teacher``, ``student`` and ``downscale`` accept (a tensor ``[B, 3, H, W]``, a list of ``[3, H, W]``).
    """
    with torch.no_grad():
        target = teacher(image)
    return student(downscale(image)), target


def freeze(module: _ModuleT) -> _ModuleT:
    """Freeze ``module`` permanently, in evaluation mode and with parameters without gradient; returns ``module``.

    ``train()`` on it or on a parent module has no effect, so its batch-norm statistics do not change. Gradients still flow through it to
    its input.
    """
    module.eval().requires_grad_(False)
    for part in module.modules():
        part.train = MethodType(_ignore_train_mode, part)  # bound, so that a deep copy returns itself
    return module


def frozen_copy(module: _ModuleT) -> _ModuleT:
    """Return a frozen copy of ``module`` (see :func:`freeze`); the original remains trainable."""
    return freeze(copy.deepcopy(module))


def _ignore_train_mode(module: _ModuleT, mode: bool = True) -> _ModuleT:
    return module


def downscale_images(images: Sequence[Tensor], scale: float = 0.5, mode: str = "bilinear") -> list[Tensor]:
    """Downscale each image ``[3, H, W]`` to ``[3, ⌊H·scale⌋, ⌊W·scale⌋]`` (at least 1 px per side), with values clamped to 0…1.

    Args:
        images: Images with values in 0…1.
        scale: Factor in (0, 1].
        mode: Degradation of AFI-GAN's Table 8: "bilinear" (the paper; for scale ½ the mean of 2x2 pixels), "nearest" or "bicubic"
            (antialiased, as in Pillow).

    Raises:
        ValueError: If ``scale`` is not in (0, 1] or ``mode`` is unknown.
    """
    if not 0 < scale <= 1:
        raise ValueError(f"scale is {scale}; downscaling needs a factor in (0, 1], such as 0.5.")
    check_choice(mode, DOWNSCALE_MODES, "degradation")
    return [_downscale_image(image, scale, mode) for image in images]


def _downscale_image(image: Tensor, scale: float, mode: str) -> Tensor:
    size, covered = _downscaled_size(image.shape[-2:], scale)
    image = image[..., : covered[0], : covered[1]]
    if mode == "nearest":
        return nnf.interpolate(image[None], size=size, mode="nearest")[0]
    options = {"antialias": True} if mode == "bicubic" else {}
    return nnf.interpolate(image[None], size=size, mode=mode, align_corners=False, **options)[0].clamp(0, 1)


def _downscaled_size(size: Sequence[int], scale: float) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return the downscaled size and the size of the image area it covers; an odd last row would shift the grid by half a pixel."""
    small = [max(1, int(side * scale)) for side in size]
    covered = [min(side, round(small_side / scale)) for side, small_side in zip(size, small, strict=True)]
    return (small[0], small[1]), (covered[0], covered[1])


def quantize_8bit(images: Tensor) -> Tensor:
    """Clamp ``images`` to 0…1 and round them to 256 levels, as in an 8-bit file. The gradient is zero."""
    return (images.clamp(0, 1) * 255).round() / 255


def rgb_to_luma(images: Tensor) -> Tensor:
    """Convert RGB ``images [..., 3, H, W]`` in 0…1 to the Y of YCbCr (BT.601) in 16/255 … 235/255, ``[..., 1, H, W]``."""
    weights = images.new_tensor(_LUMA_WEIGHTS)[:, None, None]
    return ((images * weights).sum(dim=-3, keepdim=True) + 16) / 255


def downscale_features(features: Features, mode: str = "bilinear") -> Features:
    """Downscale each map ``[B, C, H, W]`` to ``[B, C, ⌊H/2⌋, ⌊W/2⌋]``: the target of AFI-GAN's stage 2 ("bilinear", as in its figure).

    ``mode="nearest"`` selects the even rows and columns, as the published code does; this is half a cell off the student's grid.
    A single row or column is kept.
    """
    return {name: _downscale_map(x, mode) for name, x in features.items()}


def _downscale_map(x: Tensor, mode: str) -> Tensor:
    height, width = x.shape[-2:]
    kernel = (2 if height > 1 else 1, 2 if width > 1 else 1)
    if mode == "nearest":
        return x[..., :: kernel[0], :: kernel[1]][..., : max(1, height // 2), : max(1, width // 2)]
    return nnf.avg_pool2d(x, kernel)  # equals bilinear interpolation by ½ without antialiasing for even sizes


PER_OBJECT_KEYS = ("boxes", "labels", "masks", "area", "iscrowd", "ignore", "keypoints")


def downscale_targets(
    targets: Sequence[Target], images: Sequence[Tensor], scale: float = 0.5, min_box_size: float = 1.0
) -> list[Target]:
    """Convert targets of ``images`` (boxes ``xyxy`` in px) to the pixels of ``downscale_images(images, scale)``.

    Boxes are clipped to the downscaled image. Objects with a box side below ``min_box_size`` downscaled pixels are removed with their label
    and mask; an image may end up without objects.
    """
    return [
        _downscale_target(t, image.shape[-2:], scale, min_box_size) for t, image in zip(targets, images, strict=True)
    ]


def _downscale_target(target: Target, size: Sequence[int], scale: float, min_box_size: float) -> Target:
    (height, width), covered = _downscaled_size(size, scale)
    factors = [width / covered[1], height / covered[0]]
    boxes = target["boxes"] * target["boxes"].new_tensor(factors * 2)
    boxes = boxes.clamp(min=0).minimum(boxes.new_tensor([width, height] * 2))
    keep = (
        ((boxes[:, 2:] - boxes[:, :2]) >= min_box_size).all(dim=1).nonzero().flatten()
    )  # waits for a GPU once, a mask at every use
    small = {name: value[keep] if name in PER_OBJECT_KEYS else value for name, value in target.items()}
    small["boxes"] = boxes[keep]
    if "keypoints" in small:
        small["keypoints"] = small["keypoints"] * small["keypoints"].new_tensor([*factors, 1])
    if "area" in small:
        small["area"] = small["area"] * (height * width) / (covered[0] * covered[1])
    if "masks" in small:
        small["masks"] = _downscale_masks(small["masks"][..., : covered[0], : covered[1]], (height, width))
    return small


def _downscale_masks(masks: Tensor, size: tuple[int, int]) -> Tensor:
    if not len(masks):
        return masks.new_zeros((0, *size))
    soft = nnf.interpolate(masks[:, None].float(), size=size, mode="bilinear", align_corners=False)[:, 0]
    return (soft >= 0.5).to(masks.dtype)
