"""Augmentations: callables ``(image [3, H, W], target, generator) → (image, target)``.

All chance comes from the generator they are given, so the same generator state gives the same picture. Objects that
vanish leave together with their labels, areas and masks; a picture may end without objects.
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as tv

from featlift.data.dataset import Sample
from featlift.resolution import PER_OBJECT_KEYS, Target

Augmentation = Callable[[Tensor, Target, torch.Generator], Sample]


class RandomHorizontalFlip:
    """Mirror the picture left to right with ``p``."""

    def __init__(self, p: float = 0.5) -> None:
        self.p = p

    def __call__(self, image: Tensor, target: Target, generator: torch.Generator) -> Sample:
        """``[3, H, W]`` → ``[3, H, W]``."""
        if _uniform(generator, 0, 1) >= self.p:
            return image, target
        left, top, right, bottom = target["boxes"].unbind(1)
        width = image.shape[-1]
        mirrored = dict(target, boxes=torch.stack((width - right, top, width - left, bottom), dim=1))
        if "masks" in target:
            mirrored["masks"] = target["masks"].flip(-1)
        return image.flip(-1), mirrored


class RandomShortestSize:
    """Scale the picture so that its short edge is one of ``min_size`` (drawn evenly), its long edge at most ``max_size``
    pixels.

    The schedule of the detectors the papers build on: short edge 800 (or 640 … 800), long edge at most 1333.
    """

    def __init__(self, min_size: Sequence[int] | int, max_size: int = 1333) -> None:
        self.min_size = [min_size] if isinstance(min_size, int) else list(min_size)
        self.max_size = max_size
        if not self.min_size or min(self.min_size) < 1 or max_size < 1:
            raise ValueError(f"Resize(short={min_size}, longest={max_size}): edges are pixels, at least 1 each.")

    def __call__(self, image: Tensor, target: Target, generator: torch.Generator) -> Sample:
        """``[3, H, W]`` → ``[3, H', W']``, the aspect ratio kept to a pixel."""
        edges = sorted(image.shape[-2:])
        scale = min(_random_choice(generator, self.min_size) / edges[0], self.max_size / edges[1])
        return rescale_sample(image, target, scale)


class HalfSizeView:
    """Other augmentations, and beside what they make, the picture before them at half the size of the result, as ``target["half"]``.

    Resized in one step from the original (bilinear, antialiased), it keeps more detail than a halved result: the published AFI-GAN code
    makes its low-resolution view so.
    """

    def __init__(self, *augmentations: Augmentation) -> None:
        self.augmentations = augmentations

    def __call__(self, image: Tensor, target: Target, generator: torch.Generator) -> Sample:
        """``[3, H, W]`` → ``[3, H', W']``, with ``"half"`` ``[3, ⌊H'/2⌋, ⌊W'/2⌋]`` in the target."""
        original = image
        for change in self.augmentations:
            image, target = change(image, target, generator)
        size = [max(1, side // 2) for side in image.shape[-2:]]
        return image, dict(target, half=tv.resize(original, size, antialias=True).clamp(0, 1))


class LargeScaleJitter:
    """Large-scale jitter: scale by a factor drawn evenly from ``scale_range``, then cut a random window of the picture's
    own size.

    A picture that became smaller than the window stays at the top left and is not padded. (Ghiasi et al., "Simple
    Copy-Paste", 2021, use scales 0.1 … 2.)
    """

    def __init__(self, scale_range: tuple[float, float] = (0.5, 2.0), min_box_size: float = 2.0) -> None:
        self.scale_range, self.min_box_size = scale_range, min_box_size
        if not 0 < scale_range[0] <= scale_range[1]:
            raise ValueError(
                f"ScaleJitter(scales={scale_range}): give the smallest and the largest factor, both above 0."
            )

    def __call__(self, image: Tensor, target: Target, generator: torch.Generator) -> Sample:
        """``[3, H, W]`` → ``[3, ≤ H, ≤ W]``; objects of which less than ``smallest`` pixels a side are left are
        dropped.
        """
        window = image.shape[-2:]
        image, target = rescale_sample(image, target, _uniform(generator, *self.scale_range))
        height, width = (min(side, whole) for side, whole in zip(image.shape[-2:], window, strict=True))
        top = int(_uniform(generator, 0, image.shape[-2] - height + 1))
        left = int(_uniform(generator, 0, image.shape[-1] - width + 1))
        return crop_sample(image, target, (top, left, height, width), self.min_box_size)


class ColorJitter:
    """Change brightness, contrast and saturation by factors within ``1 ± strength``, in this order."""

    def __init__(self, brightness: float = 0.2, contrast: float = 0.2, saturation: float = 0.2) -> None:
        self.strengths = (brightness, contrast, saturation)

    def __call__(self, image: Tensor, target: Target, generator: torch.Generator) -> Sample:
        """``[3, H, W]`` → ``[3, H, W]`` in 0…1."""
        for change, strength in zip(
            (tv.adjust_brightness, tv.adjust_contrast, tv.adjust_saturation), self.strengths, strict=True
        ):
            image = change(image, _uniform(generator, max(0.0, 1 - strength), 1 + strength))
        return image, target


def rescale_sample(image: Tensor, target: Target, scale: float) -> Sample:
    """Picture, boxes, masks and areas at ``scale`` times the size, each side rounded to whole pixels; antialiased
    when shrinking.
    """
    size = [max(1, round(side * scale)) for side in image.shape[-2:]]
    if size == list(image.shape[-2:]):
        return image, target
    down, right = (new / old for new, old in zip(size, image.shape[-2:], strict=True))
    target = dict(target, boxes=target["boxes"] * target["boxes"].new_tensor([right, down, right, down]))
    if "area" in target:
        target["area"] = target["area"] * (down * right)
    if "masks" in target:
        target["masks"] = _resize_masks(target["masks"], size)
    return tv.resize(image, size, antialias=True).clamp(0, 1), target


def _resize_masks(masks: Tensor, size: list[int]) -> Tensor:
    if not len(masks):
        return masks.new_zeros((0, *size))
    return (tv.resize(masks.float(), size, antialias=True) >= 0.5).to(masks.dtype)


def crop_sample(image: Tensor, target: Target, crop: tuple[int, int, int, int], min_box_size: float = 1.0) -> Sample:
    """What is seen through ``crop`` (top, left, height, width), boxes clipped to it.

    An object leaves if less than ``min_box_size`` pixels of a side of its box, or nothing of its mask, can be seen. Areas
    shrink with the masks, or with the boxes where there are none.
    """
    top, left, height, width = crop
    offset, limit = (target["boxes"].new_tensor(corner * 2) for corner in ([left, top], [width, height]))
    boxes = (target["boxes"] - offset).clamp(min=0).minimum(limit)
    keep = ((boxes[:, 2:] - boxes[:, :2]) >= min_box_size).all(dim=1)
    seen = dict(target, boxes=boxes)
    if "masks" in target:
        seen["masks"] = target["masks"][:, top : top + height, left : left + width]
        keep &= (seen["masks"] != 0).flatten(1).any(dim=1)
    if "area" in target:
        seen["area"] = target["area"] * _visible_fraction(target, seen)
    seen = {name: value[keep] if name in PER_OBJECT_KEYS else value for name, value in seen.items()}
    return image[:, top : top + height, left : left + width], seen


def _visible_fraction(target: Target, cropped: Target) -> Tensor:
    """The part of each object that is still seen, 0…1, ``[N]``."""
    if "masks" in target:
        before, after = (t["masks"].flatten(1).sum(1).float() for t in (target, cropped))
    else:
        before, after = ((t["boxes"][:, 2:] - t["boxes"][:, :2]).prod(dim=1) for t in (target, cropped))
    return after / before.clamp(min=math.ulp(1.0))


def _uniform(generator: torch.Generator, low: float, high: float) -> float:
    return low + (high - low) * float(torch.rand((), generator=generator, dtype=torch.float64))


def _random_choice(generator: torch.Generator, options: Sequence[int]) -> int:
    return options[int(torch.randint(len(options), (), generator=generator))]
