"""Ignored regions in training: their pixels are hidden, so that they teach neither an object nor background."""

import math

import torch
from torch import Tensor

from featlift.data.dataset import frame_size
from featlift.features import Target


def hide_ignored_regions(image: Tensor, target: Target) -> tuple[Tensor, Target]:
    """Fill the regions with ``target["ignore"]`` 1 with the mean color of ``image [3, H, W]``; pixels of objects are kept.

    Regions are rounded to whole pixels that contain them. The result has no "ignore". Crowd regions (``iscrowd`` 1 without
    "ignore") stay visible, as in COCO's protocol.
    """
    if "ignore" not in target:
        return image, target
    scale_y, scale_x = (new / old for new, old in zip(image.shape[-2:], frame_size(image, target), strict=True))
    boxes = target["boxes"] * target["boxes"].new_tensor([scale_x, scale_y] * 2)
    hidden = _covered_pixels(boxes[target["ignore"] == 1], image)
    hidden &= ~_covered_pixels(boxes[target["iscrowd"] == 0], image)
    mean = image.mean(dim=(1, 2), keepdim=True)
    return torch.where(hidden, mean, image), {name: value for name, value in target.items() if name != "ignore"}


def _covered_pixels(boxes: Tensor, image: Tensor) -> Tensor:
    """``[H, W]`` bool: pixels that touch a box of ``boxes [N, 4]`` xyxy."""
    covered = torch.zeros(image.shape[-2:], dtype=torch.bool)
    for left, top, right, bottom in boxes.tolist():
        covered[math.floor(top) : math.ceil(bottom), math.floor(left) : math.ceil(right)] = True
    return covered
