"""Rare classes shown more often, each time cut and coloured anew (EFPN, Sec. IV-A: every class of TT100K to about 1000 instances)."""

from collections import Counter
from dataclasses import dataclass

import torch
from torch import Tensor

from featlift.data.augment import Augmentation, ColourJitter, cropped
from featlift.data.dataset import Example, Pictures
from featlift.resolution import Target


@dataclass(frozen=True)
class Balance:
    """How often pictures are shown, and how each showing differs from the last.

    Attributes:
        wanted: pictures whose rarest class has fewer objects than this (the paper: 1000) are shown more often; 0 shows all alike, as
            they are.
        crop: side in px of the resized picture of squares around an object, drawn at random; 0 shows whole pictures.
        colour: brightness, contrast and saturation change by up to this share of theirs.
    """

    wanted: int = 0
    crop: int = 0
    colour: float = 0.2

    def weights(self, shown: Pictures) -> list[float] | None:
        """How often to show each picture, for ``Batches(…, weights=…)``; None shows all alike."""
        return balance(shown, self.wanted) if self.wanted else None

    def view(self, scale: float = 1.0) -> list[Augmentation]:
        """What happens to a resized picture, which has ``scale`` times the size that ``crop`` is meant for; none without ``wanted``."""
        cut: list[Augmentation] = [Around(round(scale * self.crop))] if self.crop else []
        return [*cut, ColourJitter(self.colour, self.colour, self.colour)] if self.wanted else []


class Around:
    """An augmentation: a random window of ``side`` × ``side`` px that holds the middle of an object, any one of them.

    Without objects the window is anywhere; a picture that is smaller than the window stays as large as it is on that side.
    """

    def __init__(self, side: int, smallest: float = 2.0) -> None:
        if side < 1:
            raise ValueError(f"Around(side={side}): give the side of the window in px, at least 1.")
        self.side, self.smallest = side, smallest

    def __call__(self, image: Tensor, target: Target, generator: torch.Generator) -> Example:
        """``[3, H, W]`` → ``[3, ≤ side, ≤ side]``; objects of which less than ``smallest`` px a side are left are dropped."""
        height, width = image.shape[-2:]
        down, right = (min(self.side, side) for side in (height, width))
        y, x = self._middle(target["boxes"], generator) or (None, None)
        top, left = _start(y, down, height, generator), _start(x, right, width, generator)
        return cropped(image, target, (top, left, down, right), self.smallest)

    def _middle(self, boxes: Tensor, generator: torch.Generator) -> tuple[float, float] | None:
        """(y, x) of the middle of one of ``boxes [N, 4]``, or None."""
        if not len(boxes):
            return None
        left, top, right, bottom = boxes[int(torch.randint(len(boxes), (), generator=generator))].tolist()
        return (top + bottom) / 2, (left + right) / 2


def balance(dataset: Pictures, wanted: int = 1000) -> list[float]:
    """How often to show each picture, relative to the others: ``Batches(…, weights=…)``.

    EFPN brings each class to about 1000 instances by crops and colours (Sec. IV-A); here the pictures come more often. A picture
    counts as its rarest class does, ``wanted`` over the number of its objects, and never below 1.
    """
    truth = dataset.coco()
    count = Counter(a["category_id"] for a in truth["annotations"])
    factors: dict[int, float] = {image["id"]: 1.0 for image in truth["images"]}
    for a in truth["annotations"]:
        factors[a["image_id"]] = max(factors[a["image_id"]], wanted / count[a["category_id"]])
    return [factors[image["id"]] for image in truth["images"]]


def _start(middle: float | None, side: int, whole: int, generator: torch.Generator) -> int:
    """Where a window of ``side`` begins that holds ``middle`` and lies inside 0 … ``whole``, drawn evenly."""
    low, high = 0, whole - side
    if middle is not None:
        low, high = max(low, int(middle) - side + 1), min(high, int(middle))
    return int(torch.randint(low, high + 1, (), generator=generator))
