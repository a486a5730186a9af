"""Test-time augmentation: detections of an image at several scales, and flipped, are merged.

This is the papers' "multi-scale test" (SRF-GAN Table 2, AFI-GAN Table 1). Only boxes and masks are merged, so it works for any detector
with torchvision's interface.
"""

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.ops import batched_nms, box_iou

from featlift.registry import check_choice

Detections = dict[str, Tensor]
MergeFn = Callable[[Detections, float], tuple[Tensor, Tensor]]


class MultiScaleTTA(nn.Module):
    """Detector with multi-scale and flip test-time augmentation; processes one image at a time.

    Boxes of all views are merged per class. The mask of a kept box is the score-weighted mean of the masks of its class, in all views,
    whose box overlaps it by at least ``iou_threshold``. The cost is ``Σ scale²`` times a single forward pass (twice that with ``hflip``).

    Args:
        detector: Detector with torchvision's interface and ``transform``; it is not changed.
        scales: Factors of the detector's input size (its test size, or the image size).
        hflip: Also use the horizontally flipped image.
        merge: "nms" drops boxes that overlap a better box of their class; "soft-nms" lowers their scores.
        iou_threshold: IoU in 0…1 from which two boxes of a class are the same object.
        max_detections: Maximum number of detections per image, best first.

    Raises:
        ValueError: If ``scales`` is empty or not positive, or ``merge`` is unknown.
    """

    def __init__(
        self,
        detector: nn.Module,
        scales: Sequence[float] = (0.75, 1.0, 1.25),
        hflip: bool = True,
        merge: str = "nms",
        iou_threshold: float = 0.5,
        max_detections: int = 100,
    ):
        super().__init__()
        check_choice(merge, MERGE_FUNCTIONS, "merge")
        if not scales or min(scales) <= 0:
            raise ValueError(f"scales is {tuple(scales)}; pass at least one factor above 0, such as 0.75, 1, 1.25.")
        self.detector, self.merge = detector, MERGE_FUNCTIONS[merge]
        self.scales, self.hflips = tuple(scales), (False, True)[: 1 + hflip]
        self.iou_threshold, self.max_detections = iou_threshold, max_detections

    def forward(self, images: list[Tensor]) -> list[Detections]:
        """List of ``[3, H, W]`` in 0…1 → detections: boxes ``[N, 4]`` xyxy in image pixels, labels, scores, masks ``[N, 1, H, W]``.

        Raises:
            RuntimeError: In training mode.
        """
        if self.training:
            raise RuntimeError("Test-time augmentation works in evaluation mode only: call eval() first.")
        return [self._merge_views(self._detect_all_views(image)) for image in images]

    def _detect_all_views(self, image: Tensor) -> Detections:
        """Return the detections of all views in pixels of ``image [3, H, W]``."""
        views = []
        for scale in self.scales:
            with self._use_scale(scale, image):
                for flip in self.hflips:
                    view = self.detector([image.flip(-1) if flip else image])[0]
                    views.append(flip_detections(view, image.shape[-1]) if flip else view)
        return {name: torch.cat([view[name] for view in views]) for name in views[0]}

    @contextmanager
    def _use_scale(self, scale: float, image: Tensor) -> Iterator[None]:
        """Temporarily scale the detector's input size by ``scale``."""
        original = self.detector.transform
        self.detector.transform = scale_transform(original, scale, image)  # type: ignore[arg-type]
        try:
            yield
        finally:
            self.detector.transform = original

    def _merge_views(self, detections: Detections) -> Detections:
        keep, scores = self.merge(detections, self.iou_threshold)
        keep, scores = keep[: self.max_detections], scores[: self.max_detections]
        merged = {name: value[keep] for name, value in detections.items()} | {"scores": scores}
        if "masks" in detections:
            merged["masks"] = average_masks(detections, keep, self.iou_threshold)
        return merged


def scale_transform(transform: Any, scale: float, image: Tensor) -> nn.Module:
    """Return a copy of torchvision's ``transform`` that resizes to ``scale`` times its output size for ``image [3, H, W]``."""
    test_size = getattr(transform, "test_size", (transform.min_size[-1], transform.max_size))  # type: ignore[index]
    shortest, longest = test_size or (min(image.shape[-2:]), max(image.shape[-2:]))
    scaled = copy.copy(transform)
    size = (max(1, round(scale * shortest)), max(1, round(scale * longest)))
    scaled.test_size, scaled.min_size, scaled.max_size = size, (size[0],), size[1]  # type: ignore[assignment]
    return scaled


def flip_detections(detections: Detections, image_width: int) -> Detections:
    """Flip boxes (xyxy) and masks ``[N, 1, H, W]`` horizontally in an image of ``image_width`` pixels."""
    left, top, right, bottom = detections["boxes"].unbind(1)
    boxes = torch.stack([image_width - right, top, image_width - left, bottom], dim=1)
    return detections | {"boxes": boxes} | ({"masks": detections["masks"].flip(-1)} if "masks" in detections else {})


def hard_nms(detections: Detections, iou_threshold: float) -> tuple[Tensor, Tensor]:
    """Apply non-maximum suppression per class; returns the indices ``[K]`` of kept boxes, best first, and their scores."""
    keep = batched_nms(detections["boxes"], detections["scores"], detections["labels"], iou_threshold)
    return keep, detections["scores"][keep]


def soft_nms(detections: Detections, sigma: float, score_threshold: float = 0.05) -> tuple[Tensor, Tensor]:
    """Apply Soft-NMS (Bodla et al., ICCV 2017, Eq. (3)): each box scales the scores of its class by exp(-IoU² / ``sigma``).

    Returns the indices ``[K]`` of boxes, best first, and their decayed scores, without scores below ``score_threshold``.
    """
    same_class = detections["labels"][:, None] == detections["labels"]
    decay = torch.exp(-((box_iou(detections["boxes"], detections["boxes"]) * same_class) ** 2) / sigma)
    remaining, order, scores = detections["scores"].clone(), [], []
    while len(remaining) and (best := int(remaining.argmax())) >= 0 and remaining[best] >= score_threshold:
        order.append(best)
        scores.append(remaining[best].clone())
        remaining = remaining * decay[best]
        remaining[best] = -1.0
    keep = torch.tensor(order, dtype=torch.long, device=remaining.device)
    return keep, torch.stack(scores) if scores else remaining[:0]


def average_masks(detections: Detections, keep: Tensor, iou_threshold: float) -> Tensor:
    """Return, for each box of ``keep [K]``, the score-weighted mean mask ``[K, 1, H, W]`` of overlapping boxes of its class."""
    same_class = detections["labels"][keep][:, None] == detections["labels"]
    overlaps = (box_iou(detections["boxes"][keep], detections["boxes"]) >= iou_threshold) & same_class
    overlaps[torch.arange(len(keep), device=keep.device), keep] = True  # an empty box has IoU 0 with itself
    weights = overlaps * detections["scores"].clamp(min=1e-6)
    weights = weights / weights.sum(dim=1, keepdim=True)
    return torch.einsum("kn,nchw->kchw", weights, detections["masks"])


MERGE_FUNCTIONS: dict[str, MergeFn] = {"nms": hard_nms, "soft-nms": soft_nms}
