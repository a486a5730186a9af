"""Oversampling of rare classes with crops and color jitter (EFPN, Sec. IV-A: about 1000 instances per class of TT100K)."""

from collections import Counter
from dataclasses import dataclass

import torch
from torch import Tensor

from featlift.data.augment import Augmentation, ColorJitter, crop_sample
from featlift.data.dataset import ImageDataset, Sample
from featlift.features import Target

DEFAULT_COLOR_JITTER = 0.2


@dataclass(frozen=True)
class ClassBalance:
    """Sampling frequency of training images and their additional augmentations.

    Attributes:
        min_per_class: Images whose rarest class has fewer objects than this are sampled more often (the paper: 1000); 0
            samples all images equally, without crops.
        crop_size: Side in pixels of a random square crop of the resized image that contains an object; 0 keeps whole images.
        color_jitter: Maximum relative change of brightness, contrast and saturation; None is 0.2 with ``min_per_class``, else 0.
    """

    min_per_class: int = 0
    crop_size: int = 0
    color_jitter: float | None = None

    def image_weights(self, dataset: ImageDataset) -> list[float] | None:
        """Sampling weight of each image for `featlift.data.batches.ResumableDataLoader`, or None for equal weights."""
        return class_balance_weights(dataset, self.min_per_class) if self.min_per_class else None

    def augmentations(self, scale: float = 1.0) -> list[Augmentation]:
        """Augmentations of a resized image at ``scale`` times the size ``crop_size`` refers to: the crop, and the color jitter."""
        balanced = self.min_per_class > 0
        crop: list[Augmentation] = (
            [RandomObjectCrop(round(scale * self.crop_size))] if balanced and self.crop_size else []
        )
        strength = self.color_jitter if self.color_jitter is not None else DEFAULT_COLOR_JITTER * balanced
        return [*crop, ColorJitter(strength, strength, strength)] if strength else crop


class RandomObjectCrop:
    """Augmentation: a random crop of ``size`` × ``size`` pixels that contains the center of a random object.

    Without objects the crop is anywhere. A side of the image that is shorter than ``size`` is not cropped.

    Raises:
        ValueError: If ``size`` is below 1.
    """

    def __init__(self, size: int, min_box_size: float = 2.0) -> None:
        if size < 1:
            raise ValueError(f"RandomObjectCrop(size={size}): give the side of the crop in pixels, at least 1.")
        self.size, self.min_box_size = size, min_box_size

    def __call__(self, image: Tensor, target: Target, generator: torch.Generator) -> Sample:
        """``[3, H, W]`` → ``[3, ≤ size, ≤ size]``; removes objects whose clipped box has a side below ``min_box_size`` pixels."""
        height, width = image.shape[-2:]
        crop_height, crop_width = (min(self.size, side) for side in (height, width))
        y, x = self._random_object_center(target["boxes"], generator) or (None, None)
        top, left = _crop_start(y, crop_height, height, generator), _crop_start(x, crop_width, width, generator)
        return crop_sample(image, target, (top, left, crop_height, crop_width), self.min_box_size)

    def _random_object_center(self, boxes: Tensor, generator: torch.Generator) -> tuple[float, float] | None:
        """Center (y, x) of a random box of ``boxes [N, 4]``, or None without boxes."""
        if not len(boxes):
            return None
        left, top, right, bottom = boxes[int(torch.randint(len(boxes), (), generator=generator))].tolist()
        return (top + bottom) / 2, (left + right) / 2


def class_balance_weights(dataset: ImageDataset, min_per_class: int = 1000) -> list[float]:
    """Relative sampling weight of each image: ``max(1, min_per_class / n)``, where ``n`` is the number of objects of the
    image's rarest class.

    EFPN augments each class to about 1000 instances by crops and color changes (Sec. IV-A); here images are oversampled.
    """
    truth = dataset.coco()
    count = Counter(a["category_id"] for a in truth["annotations"])
    factors: dict[int, float] = {image["id"]: 1.0 for image in truth["images"]}
    for a in truth["annotations"]:
        factors[a["image_id"]] = max(factors[a["image_id"]], min_per_class / count[a["category_id"]])
    return [factors[image["id"]] for image in truth["images"]]


def _crop_start(center: float | None, crop_size: int, image_size: int, generator: torch.Generator) -> int:
    """Uniformly random start of a crop of ``crop_size`` that contains ``center`` and lies inside 0 … ``image_size``."""
    low, high = 0, image_size - crop_size
    if center is not None:
        low, high = max(low, int(center) - crop_size + 1), min(high, int(center))
    return int(torch.randint(low, high + 1, (), generator=generator))
