"""Boxes of YOLOX: decoding of its outputs, merging of boxes from several levels, non-maximum suppression, and COCO results."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torchvision.ops import batched_nms

MIN_SCORE, NMS_IOU_THRESHOLD, MAX_DETECTIONS = 0.01, 0.65, 100
"""Settings of the published evaluation; suppression is per class, the maximum per image."""


@dataclass(frozen=True)
class Boxes:
    """Boxes of one image before suppression, in px of the letterboxed image (side 416)."""

    xyxy: Tensor
    """``[N, 4]``"""
    scores: Tensor
    """``[N]``"""
    labels: Tensor
    """``[N]``"""

    def __len__(self) -> int:
        return len(self.scores)

    def select(self, indices: Tensor) -> "Boxes":
        """Return the boxes at ``indices``, numbers or a mask ``[N]``."""
        return Boxes(self.xyxy[indices], self.scores[indices], self.labels[indices])

    @property
    def sizes(self) -> Tensor:
        """Square roots of the areas ``[N]``, px."""
        sides = self.xyxy[:, 2:] - self.xyxy[:, :2]
        return sides.prod(1).clamp(min=0).sqrt()

    @property
    def centers(self) -> Tensor:
        """``[N, 2]`` (x, y), px."""
        return (self.xyxy[:, :2] + self.xyxy[:, 2:]) / 2


@dataclass(frozen=True)
class MergeRule:
    """Which boxes of the extended level are added to those of the plain detector, before non-maximum suppression."""

    max_size: float = 32.0
    """Only boxes below this size (square root of the area, px of the image with side 416) are added."""
    score_factor: float = 1.0
    score_power: float = 1.0
    """Scores of added boxes become ``score_factor * score ** score_power``."""
    min_plain_size: float = 0.0
    """Boxes of the plain detector below this size are removed."""


def decode_boxes(output: Tensor, stride: float) -> Tensor:
    """Decode ``[B, 85, h, w]`` (or only its first 4 channels) to corners ``[B, 4, h, w]`` in px."""
    rows, columns = (torch.arange(size, dtype=output.dtype) for size in output.shape[-2:])
    grid = torch.stack([columns.expand(len(rows), -1), rows[:, None].expand(-1, len(columns))])
    center = (output[:, :2] + grid) * stride
    half_sides = output[:, 2:4].exp() * (stride / 2)
    return torch.cat([center - half_sides, center + half_sides], 1)


def select_candidates(output: Tensor, stride: float, min_score: float = MIN_SCORE, label: int | None = None) -> Boxes:
    """Return the boxes of ``output [85, h, w]`` with a score above ``min_score``.

    The score is objectness times the probability of the best class, or of class ``label``.
    """
    probabilities = output[5:].sigmoid()
    if label is None:
        best, labels = probabilities.max(0)
    else:
        best, labels = probabilities[label], torch.full(output.shape[1:], label)
    scores = best * output[4].sigmoid()
    is_candidate = scores > min_score
    return Boxes(decode_boxes(output[None], stride)[0][:, is_candidate].T, scores[is_candidate], labels[is_candidate])


def concatenate_boxes(parts: Sequence[Boxes]) -> Boxes:
    """Concatenate the boxes of several levels."""
    return Boxes(*(torch.cat([getattr(part, name) for part in parts]) for name in ("xyxy", "scores", "labels")))


def merge_boxes(plain: Boxes, added: Boxes | None, rule: MergeRule) -> Boxes:
    """Add the boxes of the extended level to the plain detector's by ``rule`` and suppress non-maxima."""
    if added is None:
        return suppress_non_maxima(plain)
    if rule.min_plain_size:
        plain = plain.select(plain.sizes >= rule.min_plain_size)
    added = added.select(added.sizes < rule.max_size)
    added = Boxes(added.xyxy, rule.score_factor * added.scores**rule.score_power, added.labels)
    return suppress_non_maxima(concatenate_boxes([plain, added.select(added.scores > MIN_SCORE)]))


def suppress_non_maxima(boxes: Boxes, iou_threshold: float = NMS_IOU_THRESHOLD, limit: int = MAX_DETECTIONS) -> Boxes:
    """Non-maximum suppression per class; at most ``limit`` boxes, best first."""
    return boxes.select(batched_nms(boxes.xyxy, boxes.scores, boxes.labels, iou_threshold)[:limit])


def to_coco_results(boxes: Boxes, image_id: int, scale: float, category_ids: Sequence[int]) -> list[dict[str, Any]]:
    """Convert to COCO results in px of the original image.

    Args:
        boxes: Boxes of one image.
        image_id: Its id in the ground truth.
        scale: Factor of the letterboxed image's coordinates from those of the original.
        category_ids: COCO ids of the network's classes in their order.
    """
    corners = boxes.xyxy / scale
    xywh = torch.cat([corners[:, :2], corners[:, 2:] - corners[:, :2]], 1)
    return [
        {"image_id": image_id, "category_id": category_ids[label], "bbox": box, "score": score}
        for box, score, label in zip(xywh.tolist(), boxes.scores.tolist(), boxes.labels.tolist(), strict=True)
    ]
