"""Merging of two sets of boxes for detectors without non-maximum suppression."""

import torch
from torch import Tensor
from torchvision.ops import box_iou

IOU_THRESHOLD = 0.6


def find_duplicates(
    boxes: tuple[Tensor, Tensor], scores: tuple[Tensor, Tensor], labels: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor]:
    """Find boxes of either set that overlap a box of the other set with the same label and a higher score.

    Boxes of the same set are not compared: a detector without suppression has no duplicates of its own.

    Args:
        boxes: Two sets ``[B, N, 4]`` and ``[B, M, 4]``, xyxy.
        scores: ``[B, N]`` and ``[B, M]``.
        labels: ``[B, N]`` and ``[B, M]``.

    Returns:
        Masks ``[B, N]`` and ``[B, M]`` of the boxes to remove; of equal scores, the second set's.
    """
    overlaps = torch.stack([box_iou(a, b) for a, b in zip(*boxes, strict=True)]) > IOU_THRESHOLD
    overlaps &= labels[0][:, :, None] == labels[1][:, None]
    first_wins = scores[0][:, :, None] >= scores[1][:, None]
    return (overlaps & ~first_wins).any(2), (overlaps & first_wins).any(1)
