"""Augmentations: callables ``(image [3, H, W], target, generator) → (image, target)``.

All random numbers come from the given generator, so equal generator states give equal images. Objects that leave the
image are removed with their labels, areas and masks; an image may end up without objects.
"""

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as tv

from featlift.data.dataset import FULL_SIZE, Sample, frame_size
from featlift.resolution import PER_OBJECT_KEYS, Target

Augmentation = Callable[[Tensor, Target, torch.Generator], Sample]


def drop_masks(image: Tensor, target: Target, generator: torch.Generator) -> Sample:
    """Remove the masks, which take most of the time of resizing; for detectors without masks."""
    return image, {name: value for name, value in target.items() if name != "masks"}


class MapLabels:
    """Replace each label by that of ``labels``, such as those of a detector of another dataset; label 0 (any class) stays."""

    def __init__(self, labels: Mapping[int, int]) -> None:
        self.labels = {0: 0, **labels}

    def __call__(self, image: Tensor, target: Target, generator: torch.Generator) -> Sample:
        """``[3, H, W]`` → the same image; ``labels [N]`` are mapped."""
        mapped = [self.labels[label] for label in target["labels"].tolist()]
        return image, dict(target, labels=torch.tensor(mapped, dtype=torch.int64))


class RandomHorizontalFlip:
    """Flip the image horizontally with probability ``p``."""

    def __init__(self, p: float = 0.5) -> None:
        self.p = p

    def __call__(self, image: Tensor, target: Target, generator: torch.Generator) -> Sample:
        """``[3, H, W]`` → ``[3, H, W]``."""
        if _uniform(generator, 0, 1) >= self.p:
            return image, target
        left, top, right, bottom = target["boxes"].unbind(1)
        width = frame_size(image, target)[1]
        mirrored = dict(target, boxes=torch.stack((width - right, top, width - left, bottom), dim=1))
        if "masks" in target:
            mirrored["masks"] = target["masks"].flip(-1)
        return image.flip(-1), mirrored


class RandomShortestSize:
    """Resize the image so that its shorter side is one of ``min_size`` (drawn uniformly) and its longer side at most
    ``max_size`` pixels.

    The papers' detectors use a shorter side of 800 (or 640 … 800) and a longer side of at most 1333.

    Raises:
        ValueError: If ``min_size`` is empty or a size is below 1.
    """

    def __init__(self, min_size: Sequence[int] | int, max_size: int = 1333) -> None:
        self.min_size = [min_size] if isinstance(min_size, int) else list(min_size)
        self.max_size = max_size
        if not self.min_size or min(self.min_size) < 1 or max_size < 1:
            raise ValueError(
                f"RandomShortestSize(min_size={min_size}, max_size={max_size}): sizes are pixels, at least 1 each."
            )

    def __call__(self, image: Tensor, target: Target, generator: torch.Generator) -> Sample:
        """``[3, H, W]`` → ``[3, H', W']``; keeps the aspect ratio up to rounding to whole pixels."""
        shorter, longer = sorted(frame_size(image, target))
        scale = min(_random_choice(generator, self.min_size) / shorter, self.max_size / longer)
        return rescale_sample(image, target, scale)


class HalfSizeView:
    """Apply ``augmentations`` and add the original image at half the size of the result as ``target["downscaled"]``.

    The view is resized from the original in one step (bilinear, antialiased) and keeps more detail than a downscaled
    result. The published AFI-GAN code makes its low-resolution view this way.
    """

    def __init__(self, *augmentations: Augmentation) -> None:
        self.augmentations = augmentations

    def __call__(self, image: Tensor, target: Target, generator: torch.Generator) -> Sample:
        """``[3, H, W]`` → ``[3, H', W']``, with ``"downscaled"`` ``[3, ⌊H'/2⌋, ⌊W'/2⌋]`` in the target."""
        original = image
        for augment in self.augmentations:
            image, target = augment(image, target, generator)
        size = [max(1, side // 2) for side in image.shape[-2:]]
        return image, dict(target, downscaled=tv.resize(original, size, antialias=True).clamp(0, 1))


class ColorJitter:
    """Scale brightness, contrast and saturation, in this order, by random factors in ``1 ± strength``."""

    def __init__(self, brightness: float = 0.2, contrast: float = 0.2, saturation: float = 0.2) -> None:
        self.strengths = (brightness, contrast, saturation)

    def __call__(self, image: Tensor, target: Target, generator: torch.Generator) -> Sample:
        """``[3, H, W]`` → ``[3, H, W]`` in 0…1."""
        for adjust, strength in zip(
            (tv.adjust_brightness, tv.adjust_contrast, tv.adjust_saturation), self.strengths, strict=True
        ):
            image = adjust(image, _uniform(generator, max(0.0, 1 - strength), 1 + strength))
        return image, target


def rescale_sample(image: Tensor, target: Target, scale: float) -> Sample:
    """Resize image, boxes, masks and areas by ``scale`` (bilinear, antialiased); each side is rounded to whole pixels. The
    scale of an image that was decoded at a reduced size is that of its file.
    """
    frame = frame_size(image, target)
    size = [max(1, round(side * scale)) for side in frame]
    if size == list(frame) == list(image.shape[-2:]):
        return image, target
    scale_y, scale_x = (new / old for new, old in zip(size, frame, strict=True))
    target = {name: value for name, value in target.items() if name != FULL_SIZE}
    target = dict(target, boxes=target["boxes"] * target["boxes"].new_tensor([scale_x, scale_y] * 2))
    if "area" in target:
        target["area"] = target["area"] * (scale_y * scale_x)
    if "masks" in target:
        target["masks"] = _resize_masks(target["masks"], size)
    return tv.resize(image, size, antialias=True).clamp(0, 1), target


def _resize_masks(masks: Tensor, size: list[int]) -> Tensor:
    if not len(masks):
        return masks.new_zeros((0, *size))
    return (tv.resize(masks.float(), size, antialias=True) >= 0.5).to(masks.dtype)


def crop_sample(image: Tensor, target: Target, crop: tuple[int, int, int, int], min_box_size: float = 1.0) -> Sample:
    """Crop image and target to ``crop`` (top, left, height, width) in pixels; boxes are clipped.

    An object is removed if a side of its clipped box is below ``min_box_size`` pixels or its mask is empty. Areas are
    scaled by the visible fraction of the masks, or of the boxes without masks.
    """
    top, left, height, width = crop
    offset, limit = (target["boxes"].new_tensor(corner * 2) for corner in ([left, top], [width, height]))
    boxes = (target["boxes"] - offset).clamp(min=0).minimum(limit)
    keep = ((boxes[:, 2:] - boxes[:, :2]) >= min_box_size).all(dim=1)
    cropped = dict(target, boxes=boxes)
    if "masks" in target:
        cropped["masks"] = target["masks"][:, top : top + height, left : left + width]
        keep &= (cropped["masks"] != 0).flatten(1).any(dim=1)
    if "area" in target:
        cropped["area"] = target["area"] * _visible_fraction(target, cropped)
    cropped = {name: value[keep] if name in PER_OBJECT_KEYS else value for name, value in cropped.items()}
    return image[:, top : top + height, left : left + width], cropped


def _visible_fraction(target: Target, cropped: Target) -> Tensor:
    """Visible fraction of each object after the crop, 0…1, ``[N]``."""
    if "masks" in target:
        before, after = (t["masks"].flatten(1).sum(1).float() for t in (target, cropped))
    else:
        before, after = ((t["boxes"][:, 2:] - t["boxes"][:, :2]).prod(dim=1) for t in (target, cropped))
    return after / before.clamp(min=math.ulp(1.0))


def _uniform(generator: torch.Generator, low: float, high: float) -> float:
    return low + (high - low) * float(torch.rand((), generator=generator, dtype=torch.float64))


def _random_choice(generator: torch.Generator, options: Sequence[int]) -> int:
    return options[int(torch.randint(len(options), (), generator=generator))]
