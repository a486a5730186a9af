"""Images resized into a padded square, as one-stage detectors are trained and evaluated, and a random zoom of it."""

import torch
import torch.nn.functional as nnf
from torch import Tensor

from featlift.data.augment import rescale_sample
from featlift.data.dataset import Sample
from featlift.features import Target

PADDING = 114 / 255
"""Gray of YOLOX and Ultralytics, 0…1."""


def letterbox(image: Tensor, size: int, padding: float = PADDING) -> tuple[Tensor, float]:
    """Resize ``image [3, H, W]`` in 0…1 so that its longer side is ``size`` px, and pad it at the bottom and right.

    Bilinear without antialiasing and rounded to 256 levels, as OpenCV resizes bytes; sides are rounded down.

    Returns:
        The image ``[3, size, size]``, and the scale from coordinates of ``image`` to its coordinates.
    """
    height, width = image.shape[-2:]
    scale = min(size / height, size / width)
    shape = (max(1, int(height * scale)), max(1, int(width * scale)))
    resized = nnf.interpolate(image[None], size=shape, mode="bilinear", align_corners=False)[0]
    square = image.new_full((3, size, size), padding)
    square[:, : shape[0], : shape[1]] = (resized * 255).round() / 255
    return square, scale


class RandomZoom:
    """Augmentation: resize the longer side to ``size`` times 1 … ``max_zoom``, then crop and pad to a square of ``size`` px.

    Args:
        size: Side of the square, px.
        max_zoom: Largest enlargement.
    """

    def __init__(self, size: int, max_zoom: float = 1.6) -> None:
        self.size, self.max_zoom = size, max_zoom

    def __call__(self, image: Tensor, target: Target, generator: torch.Generator) -> Sample:
        """``[3, H, W]`` → ``[3, size, size]``; the target is that of the whole resized image, without the crop."""
        zoom = 1 + (self.max_zoom - 1) * float(torch.rand((), generator=generator))
        image, target = rescale_sample(image, target, zoom * self.size / max(image.shape[-2:]))
        height, width = (min(self.size, side) for side in image.shape[-2:])
        top = int(torch.randint(image.shape[-2] - height + 1, (), generator=generator))
        left = int(torch.randint(image.shape[-1] - width + 1, (), generator=generator))
        square = image.new_full((3, self.size, self.size), PADDING)
        square[:, :height, :width] = image[:, top : top + height, left : left + width]
        return square, target
