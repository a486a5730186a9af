"""Sliced inference (Akyon et al., "Slicing aided hyper inference", ICIP 2022), a common method for small objects in large images.

The detector runs on overlapping slices of the image, each resized to the detector's input size, and on the whole image. Detections of
all are merged by non-maximum suppression per class, which keeps the order of scores that average precision needs.
"""

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

from featlift.detectors.multi_scale import Detections, hard_nms, scale_transform


class SlicedDetector(nn.Module):
    """Detector with sliced inference and a forward pass on the whole image; processes one image at a time.

    Args:
        detector: Detector with torchvision's interface and ``transform``; it is not changed.
        slice_size: Side of a slice in pixels; images that fit into one are not sliced.
        overlap: Fraction of a slice shared with the next, in 0…1, so that an object of this size is whole in one of them.
        scale: Factor of the detector's input size for slices (its test size, or the slice's own size).
        iou_threshold: IoU in 0…1 from which two boxes of a class are the same object.
        max_detections: Maximum number of detections per image, best first.

    Raises:
        ValueError: If ``slice_size`` is below 1, ``overlap`` not in 0…1 or ``scale`` not positive.
    """

    def __init__(
        self,
        detector: nn.Module,
        slice_size: int,
        overlap: float = 0.2,
        scale: float = 1.0,
        iou_threshold: float = 0.5,
        max_detections: int = 100,
    ):
        super().__init__()
        if slice_size < 1:
            raise ValueError(f"The side of a slice is {slice_size}; give a number of pixels, at least 1.")
        if not 0 <= overlap < 1:
            raise ValueError(f"The overlap of slices is {overlap}; it is a fraction of a slice, from 0 to below 1.")
        if scale <= 0:
            raise ValueError(f"The scale of slices is {scale}; it is a factor of the detector's input size, above 0.")
        self.detector, self.slice_size, self.overlap, self.scale = detector, slice_size, overlap, scale
        self.iou_threshold, self.max_detections = iou_threshold, max_detections

    def forward(self, images: list[Tensor]) -> list[Detections]:
        """List of ``[3, H, W]`` in 0…1 → detections: boxes ``[N, 4]`` xyxy in image pixels, labels, scores, masks ``[N, 1, H, W]``.

        Raises:
            RuntimeError: In training mode.
        """
        if self.training:
            raise RuntimeError("Sliced inference works in evaluation mode only: call eval() first.")
        return [self._detect(image) for image in images]

    def _detect(self, image: Tensor) -> Detections:
        views = [self.detector([image])[0], *self._detect_slices(image)]
        joined = {name: torch.cat([view[name] for view in views]) for name in views[0]}
        keep, _ = hard_nms(joined, self.iou_threshold)
        return {name: value[keep[: self.max_detections]] for name, value in joined.items()}

    def _detect_slices(self, image: Tensor) -> Iterator[Detections]:
        """Detections in each slice, in pixels of ``image``."""
        height, width = image.shape[-2:]
        if max(height, width) <= self.slice_size:
            return
        for top in slice_starts(height, self.slice_size, self.overlap):
            for left in slice_starts(width, self.slice_size, self.overlap):
                part = image[:, top : top + self.slice_size, left : left + self.slice_size]
                yield move_detections(self._detect_enlarged(part), left, top, (height, width))

    def _detect_enlarged(self, part: Tensor) -> Detections:
        detector: Any = self.detector
        original = detector.transform
        detector.transform = scale_transform(original, self.scale, part)
        try:
            return detector([part])[0]
        finally:
            detector.transform = original


def slice_starts(length: int, slice_size: int, overlap: float) -> list[int]:
    """Return the first pixels of slices of ``slice_size`` that cover ``length`` pixels; the last slice is moved inward."""
    step = max(1, slice_size - int(overlap * slice_size))
    last = max(0, length - slice_size)
    return [*range(0, last, step), last]


def move_detections(detections: Detections, left: int, top: int, size: tuple[int, int]) -> Detections:
    """Return ``detections`` of a slice that starts at (``left``, ``top``) in pixels of the image of ``size`` (H, W)."""
    offset = detections["boxes"].new_tensor([left, top, left, top])
    moved = detections | {"boxes": detections["boxes"] + offset}
    if "masks" in detections:
        height, width = detections["masks"].shape[-2:]
        around = (left, size[1] - left - width, top, size[0] - top - height)
        moved["masks"] = nnf.pad(detections["masks"], around)
    return moved
