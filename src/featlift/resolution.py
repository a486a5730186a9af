"""One picture at two resolutions: the idea that all five papers share.

*The teacher sees the picture, the student only the shrunken picture; both answer with features of the same names.*
"""

import copy
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

from featlift.features import Features

Image = TypeVar("Image")
Module = TypeVar("Module", bound=nn.Module)
Target = dict[str, Tensor]

SHRINKERS = ("bilinear", "nearest", "bicubic")


def cross_resolution(
    teacher: Callable[[Image], Features],
    student: Callable[[Image], Features],
    image: Image,
    shrink: Callable[[Image], Image],
) -> tuple[Features, Features]:
    """``(student(shrink(image)), teacher(image))``; the teacher's answer carries no graph.

    Whatever ``image`` is (a tensor ``[B, 3, H, W]``, a list of ``[3, H, W]``), ``teacher``, ``student`` and ``shrink`` agree on it.
    """
    with torch.no_grad():
        target = teacher(image)
    return student(shrink(image)), target


def frozen(module: Module) -> Module:
    """A copy of ``module`` that stays as it is: in evaluation mode for ever, its parameters without gradient.

    ``train()`` on the copy, or on a module that holds it, does not bring it (or its batch-norm statistics) back to life. Gradients still
    flow *through* it to its input.
    """
    still = copy.deepcopy(module).eval().requires_grad_(False)
    still.train = lambda mode=True: still  # type: ignore[method-assign]
    return still


def shrink(images: Sequence[Tensor], scale: float = 0.5, mode: str = "bilinear") -> list[Tensor]:
    """Each picture ``[3, H, W]`` of ``images`` at ``[3, ⌊H·scale⌋, ⌊W·scale⌋]`` (at least 1 px a side), values kept in 0…1.

    ``mode`` is the degradation of AFI-GAN's Table 8: "bilinear" (the paper's; for scale ½ it is the mean of 2x2 pixels), "nearest" or
    "bicubic" (antialiased, as Pillow does it).

    Raises:
        ValueError: if ``scale`` is not in (0, 1] or ``mode`` is unknown.
    """
    if not 0 < scale <= 1:
        raise ValueError(f"scale is {scale}; shrinking needs a factor above 0 and at most 1 (0.5 halves each side).")
    if mode not in SHRINKERS:
        raise ValueError(f"Unknown degradation '{mode}'; choose one of {', '.join(SHRINKERS)}.")
    return [_shrunken(image, scale, mode) for image in images]


def _shrunken(image: Tensor, scale: float, mode: str) -> Tensor:
    size = [max(1, int(side * scale)) for side in image.shape[-2:]]
    whole = image[..., : round(size[0] / scale), : round(size[1] / scale)]  # an odd last row would shift the grid by half a pixel
    if mode == "nearest":
        return nnf.interpolate(whole[None], size=size, mode="nearest")[0]
    options = {"antialias": True} if mode == "bicubic" else {}
    return nnf.interpolate(whole[None], size=size, mode=mode, align_corners=False, **options)[0].clamp(0, 1)


def shrink_features(features: Features, mode: str = "bilinear") -> Features:
    """Each map ``[B, C, H, W]`` at ``[B, C, ⌊H/2⌋, ⌊W/2⌋]``: the target of AFI-GAN's stage 2 (its figure says bilinear).

    ``mode="nearest"`` takes the even rows and columns, as the published code does; that is half a cell off the student's grid.
    A map with a single row or column keeps it.
    """
    return {name: _halved(x, mode) for name, x in features.items()}


def _halved(x: Tensor, mode: str) -> Tensor:
    height, width = x.shape[-2:]
    kernel = (2 if height > 1 else 1, 2 if width > 1 else 1)
    if mode == "nearest":
        return x[..., :: kernel[0], :: kernel[1]][..., : max(1, height // 2), : max(1, width // 2)]
    return nnf.avg_pool2d(x, kernel)  # = bilinear ½ without antialiasing, for every even size


def shrink_targets(targets: Sequence[Target], before: Sequence[Tensor], after: Sequence[Tensor], smallest: float = 1.0) -> list[Target]:
    """The targets of pictures ``before`` (boxes ``xyxy`` in their pixels), for the same pictures shrunken to ``after``.

    Boxes take each side's own factor (``W_after / W_before``), are clipped to the picture, and those with a side under ``smallest``
    pixels are left out together with their label and mask; a picture may end without objects.
    """
    return [_shrunken_target(t, a.shape[-2:], b.shape[-2:], smallest) for t, b, a in zip(targets, before, after, strict=True)]


def _shrunken_target(target: Target, after: torch.Size, before: torch.Size, smallest: float) -> Target:
    (height, width), (old_height, old_width) = after, before
    boxes = target["boxes"] * target["boxes"].new_tensor([width / old_width, height / old_height] * 2)
    boxes = boxes.clamp(min=0).minimum(boxes.new_tensor([width, height] * 2))
    keep = ((boxes[:, 2:] - boxes[:, :2]) >= smallest).all(dim=1)
    count = len(boxes)
    small = {name: value[keep] if _per_object(value, count) else value for name, value in target.items()}
    small["boxes"] = boxes[keep]
    if "area" in small and _per_object(target["area"], count):
        small["area"] = small["area"] * (height * width) / (old_height * old_width)
    if "masks" in small:
        small["masks"] = _shrunken_masks(small["masks"], (height, width))
    return small


def _per_object(value: object, count: int) -> bool:
    return isinstance(value, Tensor) and value.dim() > 0 and value.shape[0] == count


def _shrunken_masks(masks: Tensor, size: tuple[int, int]) -> Tensor:
    if not len(masks):
        return masks.new_zeros((0, *size))
    soft = nnf.interpolate(masks[:, None].float(), size=size, mode="bilinear", align_corners=False)[:, 0]
    return (soft >= 0.5).to(masks.dtype)
