"""Rare classes shown more often, each time cut and colored anew (EFPN, Sec. IV-A: every class of TT100K to about 1000 instances)."""

from collections import Counter
from dataclasses import dataclass

import torch
from torch import Tensor

from featlift.data.augment import Augmentation, ColorJitter, crop_sample
from featlift.data.dataset import ImageDataset, Sample
from featlift.resolution import Target


@dataclass(frozen=True)
class ClassBalance:
    """How often pictures are shown, and how each showing differs from the last.

    Attributes:
        min_per_class: pictures whose rarest class has fewer objects than this (the paper: 1000) are shown more often; 0 shows all alike, as
            they are.
        crop_size: side in px of the resized picture of squares around an object, drawn at random; 0 shows whole pictures.
        color_jitter: brightness, contrast and saturation change by up to this share of theirs.
    """

    min_per_class: int = 0
    crop_size: int = 0
    color_jitter: float = 0.2

    def image_weights(self, dataset: ImageDataset) -> list[float] | None:
        """How often to show each picture, for ``Batches(…, weights=…)``; None shows all alike."""
        return class_balance_weights(dataset, self.min_per_class) if self.min_per_class else None

    def augmentations(self, scale: float = 1.0) -> list[Augmentation]:
        """What happens to a resized picture, which has ``scale`` times the size that ``crop`` is meant for; none without ``wanted``."""
        cut: list[Augmentation] = [RandomObjectCrop(round(scale * self.crop_size))] if self.crop_size else []
        return (
            [*cut, ColorJitter(self.color_jitter, self.color_jitter, self.color_jitter)] if self.min_per_class else []
        )


class RandomObjectCrop:
    """An augmentation: a random window of ``size`` × ``size`` px that holds the middle of an object, any one of them.

    Without objects the window is anywhere; a picture that is smaller than the window stays as large as it is on that side.
    """

    def __init__(self, size: int, min_box_size: float = 2.0) -> None:
        if size < 1:
            raise ValueError(f"Around(side={size}): give the side of the window in px, at least 1.")
        self.size, self.min_box_size = size, min_box_size

    def __call__(self, image: Tensor, target: Target, generator: torch.Generator) -> Sample:
        """``[3, H, W]`` → ``[3, ≤ side, ≤ side]``; objects of which less than ``smallest`` px a side are left are dropped."""
        height, width = image.shape[-2:]
        down, right = (min(self.size, side) for side in (height, width))
        y, x = self._random_object_center(target["boxes"], generator) or (None, None)
        top, left = _crop_start(y, down, height, generator), _crop_start(x, right, width, generator)
        return crop_sample(image, target, (top, left, down, right), self.min_box_size)

    def _random_object_center(self, boxes: Tensor, generator: torch.Generator) -> tuple[float, float] | None:
        """(y, x) of the middle of one of ``boxes [N, 4]``, or None."""
        if not len(boxes):
            return None
        left, top, right, bottom = boxes[int(torch.randint(len(boxes), (), generator=generator))].tolist()
        return (top + bottom) / 2, (left + right) / 2


def class_balance_weights(dataset: ImageDataset, min_per_class: int = 1000) -> list[float]:
    """How often to show each picture, relative to the others: ``Batches(…, weights=…)``.

    EFPN brings each class to about 1000 instances by crops and colors (Sec. IV-A); here the pictures come more often. A picture
    counts as its rarest class does, ``min_per_class`` over the number of its objects, and never below 1.
    """
    truth = dataset.coco()
    count = Counter(a["category_id"] for a in truth["annotations"])
    factors: dict[int, float] = {image["id"]: 1.0 for image in truth["images"]}
    for a in truth["annotations"]:
        factors[a["image_id"]] = max(factors[a["image_id"]], min_per_class / count[a["category_id"]])
    return [factors[image["id"]] for image in truth["images"]]


def _crop_start(center: float | None, crop_size: int, image_size: int, generator: torch.Generator) -> int:
    """Where a window of ``crop_size`` begins that holds ``center`` and lies inside 0 … ``image_size``, drawn evenly."""
    low, high = 0, image_size - crop_size
    if center is not None:
        low, high = max(low, int(center) - crop_size + 1), min(high, int(center))
    return int(torch.randint(low, high + 1, (), generator=generator))
