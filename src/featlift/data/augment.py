"""Augmentations: callables ``(image [3, H, W], target, generator) → (image, target)``.

All chance comes from the generator they are given, so the same generator state gives the same picture. Objects that
vanish leave together with their labels, areas and masks; a picture may end without objects.
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as tv

from featlift.data.dataset import Example
from featlift.resolution import PER_OBJECT, Target

Augmentation = Callable[[Tensor, Target, torch.Generator], Example]


class Flip:
    """Mirror the picture left to right with ``probability``."""

    def __init__(self, probability: float = 0.5) -> None:
        self.probability = probability

    def __call__(self, image: Tensor, target: Target, generator: torch.Generator) -> Example:
        """``[3, H, W]`` → ``[3, H, W]``."""
        if _uniform(generator, 0, 1) >= self.probability:
            return image, target
        left, top, right, bottom = target["boxes"].unbind(1)
        width = image.shape[-1]
        mirrored = dict(target, boxes=torch.stack((width - right, top, width - left, bottom), dim=1))
        if "masks" in target:
            mirrored["masks"] = target["masks"].flip(-1)
        return image.flip(-1), mirrored


class Resize:
    """Scale the picture so that its short edge is one of ``short`` (drawn evenly), its long edge at most ``longest``
    pixels.

    The schedule of the detectors the papers build on: short edge 800 (or 640 … 800), long edge at most 1333.
    """

    def __init__(self, short: Sequence[int] | int, longest: int = 1333) -> None:
        self.short = [short] if isinstance(short, int) else list(short)
        self.longest = longest
        if not self.short or min(self.short) < 1 or longest < 1:
            raise ValueError(f"Resize(short={short}, longest={longest}): edges are pixels, at least 1 each.")

    def __call__(self, image: Tensor, target: Target, generator: torch.Generator) -> Example:
        """``[3, H, W]`` → ``[3, H', W']``, the aspect ratio kept to a pixel."""
        edges = sorted(image.shape[-2:])
        scale = min(_choice(generator, self.short) / edges[0], self.longest / edges[1])
        return scaled(image, target, scale)


class Halved:
    """Other augmentations, and beside what they make, the picture before them at half the size of the result, as ``target["half"]``.

    Resized in one step from the original (bilinear, antialiased), it keeps more detail than a halved result: the published AFI-GAN code
    makes its low-resolution view so.
    """

    def __init__(self, *augmentations: Augmentation) -> None:
        self.augmentations = augmentations

    def __call__(self, image: Tensor, target: Target, generator: torch.Generator) -> Example:
        """``[3, H, W]`` → ``[3, H', W']``, with ``"half"`` ``[3, ⌊H'/2⌋, ⌊W'/2⌋]`` in the target."""
        original = image
        for change in self.augmentations:
            image, target = change(image, target, generator)
        size = [max(1, side // 2) for side in image.shape[-2:]]
        return image, dict(target, half=tv.resize(original, size, antialias=True).clamp(0, 1))


class ScaleJitter:
    """Large-scale jitter: scale by a factor drawn evenly from ``scales``, then cut a random window of the picture's
    own size.

    A picture that became smaller than the window stays at the top left and is not padded. (Ghiasi et al., "Simple
    Copy-Paste", 2021, use scales 0.1 … 2.)
    """

    def __init__(self, scales: tuple[float, float] = (0.5, 2.0), smallest: float = 2.0) -> None:
        self.scales, self.smallest = scales, smallest
        if not 0 < scales[0] <= scales[1]:
            raise ValueError(f"ScaleJitter(scales={scales}): give the smallest and the largest factor, both above 0.")

    def __call__(self, image: Tensor, target: Target, generator: torch.Generator) -> Example:
        """``[3, H, W]`` → ``[3, ≤ H, ≤ W]``; objects of which less than ``smallest`` pixels a side are left are
        dropped.
        """
        window = image.shape[-2:]
        image, target = scaled(image, target, _uniform(generator, *self.scales))
        height, width = (min(side, whole) for side, whole in zip(image.shape[-2:], window, strict=True))
        top = int(_uniform(generator, 0, image.shape[-2] - height + 1))
        left = int(_uniform(generator, 0, image.shape[-1] - width + 1))
        return cropped(image, target, (top, left, height, width), self.smallest)


class ColourJitter:
    """Change brightness, contrast and saturation by factors within ``1 ± strength``, in this order."""

    def __init__(self, brightness: float = 0.2, contrast: float = 0.2, saturation: float = 0.2) -> None:
        self.strengths = (brightness, contrast, saturation)

    def __call__(self, image: Tensor, target: Target, generator: torch.Generator) -> Example:
        """``[3, H, W]`` → ``[3, H, W]`` in 0…1."""
        for change, strength in zip(
            (tv.adjust_brightness, tv.adjust_contrast, tv.adjust_saturation), self.strengths, strict=True
        ):
            image = change(image, _uniform(generator, max(0.0, 1 - strength), 1 + strength))
        return image, target


def scaled(image: Tensor, target: Target, scale: float) -> Example:
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
        target["masks"] = _scaled_masks(target["masks"], size)
    return tv.resize(image, size, antialias=True).clamp(0, 1), target


def _scaled_masks(masks: Tensor, size: list[int]) -> Tensor:
    if not len(masks):
        return masks.new_zeros((0, *size))
    return (tv.resize(masks.float(), size, antialias=True) >= 0.5).to(masks.dtype)


def cropped(image: Tensor, target: Target, window: tuple[int, int, int, int], smallest: float = 1.0) -> Example:
    """What is seen through ``window`` (top, left, height, width), boxes clipped to it.

    An object leaves if less than ``smallest`` pixels of a side of its box, or nothing of its mask, can be seen. Areas
    shrink with the masks, or with the boxes where there are none.
    """
    top, left, height, width = window
    offset, limit = (target["boxes"].new_tensor(corner * 2) for corner in ([left, top], [width, height]))
    boxes = (target["boxes"] - offset).clamp(min=0).minimum(limit)
    keep = ((boxes[:, 2:] - boxes[:, :2]) >= smallest).all(dim=1)
    seen = dict(target, boxes=boxes)
    if "masks" in target:
        seen["masks"] = target["masks"][:, top : top + height, left : left + width]
        keep &= (seen["masks"] != 0).flatten(1).any(dim=1)
    if "area" in target:
        seen["area"] = target["area"] * _share(target, seen)
    seen = {name: value[keep] if name in PER_OBJECT else value for name, value in seen.items()}
    return image[:, top : top + height, left : left + width], seen


def _share(target: Target, seen: Target) -> Tensor:
    """The part of each object that is still seen, 0…1, ``[N]``."""
    if "masks" in target:
        before, after = (t["masks"].flatten(1).sum(1).float() for t in (target, seen))
    else:
        before, after = ((t["boxes"][:, 2:] - t["boxes"][:, :2]).prod(dim=1) for t in (target, seen))
    return after / before.clamp(min=math.ulp(1.0))


def _uniform(generator: torch.Generator, low: float, high: float) -> float:
    return low + (high - low) * float(torch.rand((), generator=generator, dtype=torch.float64))


def _choice(generator: torch.Generator, things: Sequence[int]) -> int:
    return things[int(torch.randint(len(things), (), generator=generator))]
