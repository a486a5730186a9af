"""Test-time augmentation: a detector sees a picture at several sizes, and mirrored, and the answers become one.

What the papers' rows "multi-scale test" are (SRF-GAN Table 2, AFI-GAN Table 1); done here by boxes and masks alone, so that it
works for any detector under torchvision's contract.
"""

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.ops import batched_nms, box_iou

Detections = dict[str, Tensor]
MergeFn = Callable[[Detections, float], tuple[Tensor, Tensor]]


class MultiScaleTTA(nn.Module):
    """A detector that looks at every picture several times; one picture at a time.

    Boxes of all views are merged class by class. A kept box's mask is the mean of those masks of its class, in all views, whose box
    overlaps it by at least ``iou_threshold``, weighted by their scores. It costs ``Σ scale²`` times one look (twice that with ``hflip``).

    Args:
        detector: under torchvision's contract, with torchvision's ``transform``; it is not changed.
        scales: factors of the size that the detector would look at (its test size, or else the picture's own).
        hflip: look at the mirrored picture, too.
        merge: "nms" drops boxes that overlap a better one of their class, "soft-nms" only lowers their score.
        iou_threshold: IoU in 0…1 from which two boxes of one class are one object.
        max_detections: detections kept of a picture, best first.

    Raises:
        ValueError: if a scale is not positive, there is none, or ``merge`` is unknown.
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
        if merge not in MERGE_FUNCTIONS:
            raise ValueError(f"Unknown merge '{merge}'; choose one of {', '.join(MERGE_FUNCTIONS)}.")
        if not scales or min(scales) <= 0:
            raise ValueError(f"scales is {tuple(scales)}; give at least one factor above 0, such as 0.75, 1, 1.25.")
        self.detector, self.merge = detector, MERGE_FUNCTIONS[merge]
        self.scales, self.hflips, self.iou_threshold, self.max_detections = (
            tuple(scales),
            (False, True)[: 1 + hflip],
            iou_threshold,
            max_detections,
        )

    def forward(self, images: list[Tensor]) -> list[Detections]:
        """List of ``[3, H, W]`` in 0…1 → as the detector answers: boxes ``[N, 4]`` xyxy px of the picture, …, masks ``[N, 1, H, W]``.

        Raises:
            RuntimeError: in training mode.
        """
        if self.training:
            raise RuntimeError("Several sizes are looked at in evaluation only: call eval() first.")
        return [self._merge_views(self._detect_all_views(image)) for image in images]

    def _detect_all_views(self, image: Tensor) -> Detections:
        """What all views found, in the pixels of ``image [3, H, W]``."""
        found = []
        for scale in self.scales:
            with self._use_scale(scale, image):
                for flip in self.hflips:
                    view = self.detector([image.flip(-1) if flip else image])[0]
                    found.append(flip_detections(view, image.shape[-1]) if flip else view)
        return {name: torch.cat([view[name] for view in found]) for name in found[0]}

    @contextmanager
    def _use_scale(self, scale: float, image: Tensor) -> Iterator[None]:
        """The detector resizes pictures to ``scale`` times what it would, for a moment."""
        usual = self.detector.transform
        self.detector.transform = scale_transform(usual, scale, image)  # type: ignore[arg-type]
        try:
            yield
        finally:
            self.detector.transform = usual

    def _merge_views(self, detections: Detections) -> Detections:
        keep, scores = self.merge(detections, self.iou_threshold)
        keep, scores = keep[: self.max_detections], scores[: self.max_detections]
        merged = {name: value[keep] for name, value in detections.items()} | {"scores": scores}
        return merged | (
            {"masks": average_masks(detections, keep, self.iou_threshold)} if "masks" in detections else {}
        )


def scale_transform(transform: Any, scale: float, image: Tensor) -> nn.Module:
    """A copy of torchvision's ``transform`` that resizes to ``scale`` times the size it would give ``image [3, H, W]``."""
    usual = getattr(transform, "test_size", (transform.min_size[-1], transform.max_size))  # type: ignore[index]
    short, longest = usual or (min(image.shape[-2:]), max(image.shape[-2:]))
    other = copy.copy(transform)
    size = (max(1, round(scale * short)), max(1, round(scale * longest)))
    other.test_size, other.min_size, other.max_size = size, (size[0],), size[1]  # type: ignore[assignment]
    return other


def flip_detections(detections: Detections, image_width: int) -> Detections:
    """Detections on a mirrored picture of ``image_width`` px as they are on the picture itself; boxes xyxy, masks ``[N, 1, H, W]``."""
    left, top, right, bottom = detections["boxes"].unbind(1)
    boxes = torch.stack([image_width - right, top, image_width - left, bottom], dim=1)
    return detections | {"boxes": boxes} | ({"masks": detections["masks"].flip(-1)} if "masks" in detections else {})


def hard_nms(detections: Detections, iou_threshold: float) -> tuple[Tensor, Tensor]:
    """Indices ``[K]`` of the boxes that no better one of their class overlaps by more than ``iou_threshold``, best first, and their scores."""
    keep = batched_nms(detections["boxes"], detections["scores"], detections["labels"], iou_threshold)
    return keep, detections["scores"][keep]


def soft_nms(detections: Detections, sigma: float, score_threshold: float = 0.05) -> tuple[Tensor, Tensor]:
    """Soft-NMS (Bodla et al., ICCV 2017, Eq. 3): each box lowers the scores of its class that it overlaps, by exp(-IoU² / ``sigma``).

    Indices ``[K]``, best first, and the lowered scores; those under ``score_threshold`` are left out.
    """
    same = detections["labels"][:, None] == detections["labels"]
    decay = torch.exp(-((box_iou(detections["boxes"], detections["boxes"]) * same) ** 2) / sigma)
    left, order, scores = detections["scores"].clone(), [], []
    while len(left) and (best := int(left.argmax())) >= 0 and left[best] >= score_threshold:
        order.append(best)
        scores.append(left[best].clone())
        left = left * decay[best]
        left[best] = -1.0
    keep = torch.tensor(order, dtype=torch.long, device=left.device)
    return keep, torch.stack(scores) if scores else left[:0]


def average_masks(detections: Detections, keep: Tensor, iou_threshold: float) -> Tensor:
    """For each box of ``keep [K]`` the mean mask ``[K, 1, H, W]`` of its class's boxes that overlap it, weighted by score."""
    same = detections["labels"][keep][:, None] == detections["labels"]
    near = (box_iou(detections["boxes"][keep], detections["boxes"]) >= iou_threshold) & same
    near[torch.arange(len(keep), device=keep.device), keep] = True  # a box without area overlaps not even itself
    weights = near * detections["scores"].clamp(min=1e-6)
    weights = weights / weights.sum(dim=1, keepdim=True)
    return torch.einsum("kn,nchw->kchw", weights, detections["masks"])


MERGE_FUNCTIONS: dict[str, MergeFn] = {"nms": hard_nms, "soft-nms": soft_nms}
