"""Sliced inference (Akyon et al., ICIP 2022) with its authors' library sahi, a common method for small objects in large images.

The detector runs on overlapping, upscaled slices of the image and on the whole image; detections are merged by non-maximum suppression
per class. (sahi's default merges boxes into larger ones, which fails at the low scores required for average precision.)
"""

import importlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from featlift.detectors.multi_scale import Detections, scale_transform


class SliceDetector(nn.Module):
    """Detector that upscales slices by ``scale`` and processes larger images at their usual size.

    Args:
        detector: Detector with torchvision's interface and ``transform``; it is not changed.
        slice_size: Images with no side longer than this, in pixels, are slices.
        scale: Factor of the detector's input size for slices.
    """

    def __init__(self, detector: nn.Module, slice_size: int, scale: float):
        super().__init__()
        self.detector, self.slice_size, self.scale = detector, slice_size, scale

    def forward(self, images: list[Tensor]) -> list[Detections]:
        """List with one image ``[3, H, W]`` in 0…1 → its detections, boxes ``[N, 4]`` in pixels of this image."""
        original: Any = self.detector.transform
        if max(images[0].shape[-2:]) <= self.slice_size:
            self.detector.transform = scale_transform(original, self.scale, images[0])
        try:
            return self.detector(images)
        finally:
            self.detector.transform = original


class SAHIDetector(nn.Module):
    """Detector with sliced inference (SAHI) and a forward pass on the whole image; processes one image at a time.

    Returns boxes, labels and scores, no masks. sahi works on 8-bit images, so the detector receives rounded values.

    Args:
        detector: Detector with torchvision's interface and ``transform``; it is not changed.
        class_names: Class names; label k is ``class_names[k - 1]``.
        slice_size: Side of a slice in pixels.
        scale: Factor of the detector's input size for slices (its test size, or the slice size).
        overlap_ratio: Fraction of a slice shared with the next.
        score_threshold: Minimum score of a detection.
        max_detections: Maximum number of detections per image, best first.

    Raises:
        ImportError: If sahi is not installed.
    """

    def __init__(
        self,
        detector: nn.Module,
        class_names: Sequence[str],
        slice_size: int = 512,
        scale: float = 2.0,
        overlap_ratio: float = 0.2,
        score_threshold: float = 0.05,
        max_detections: int = 100,
    ):
        super().__init__()
        self.slice_detector = SliceDetector(detector, slice_size, scale)
        self.overlap_ratio, self.score_threshold, self.max_detections = overlap_ratio, score_threshold, max_detections
        self.category_mapping = {str(label): name for label, name in enumerate(class_names, start=1)}
        _import_sahi("predict")

    def forward(self, images: list[Tensor]) -> list[Detections]:
        """List of ``[3, H, W]`` in 0…1 → boxes ``[N, 4]`` xyxy in image pixels, labels and scores ``[N]``."""
        return [self._detect(image) for image in images]

    def _detect(self, image: Tensor) -> Detections:
        model = _import_sahi("models.torchvision").TorchVisionDetectionModel(
            model=self.slice_detector,
            confidence_threshold=self.score_threshold,
            category_mapping=self.category_mapping,
            device=str(image.device),
        )
        result = _import_sahi("predict").get_sliced_prediction(
            (image.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy(),
            model,
            slice_height=self.slice_detector.slice_size,
            slice_width=self.slice_detector.slice_size,
            overlap_height_ratio=self.overlap_ratio,
            overlap_width_ratio=self.overlap_ratio,
            postprocess_type="NMS",
            postprocess_match_metric="IOU",
            verbose=0,
        )
        return _to_torchvision(result.object_prediction_list, self.max_detections, image.device)


def _to_torchvision(predictions: Sequence[Any], max_detections: int, device: torch.device) -> Detections:
    """Convert sahi's predictions to torchvision's format, best first."""
    best = sorted(predictions, key=lambda p: -p.score.value)[:max_detections]
    boxes = torch.tensor([p.bbox.to_xyxy() for p in best], dtype=torch.float32).reshape(-1, 4)
    labels = torch.tensor([p.category.id for p in best], dtype=torch.int64)
    scores = torch.tensor([float(p.score.value) for p in best])
    return {"boxes": boxes.to(device), "labels": labels.to(device), "scores": scores.to(device)}


def _import_sahi(module: str) -> Any:
    """Import ``sahi.<module>``; raises ImportError with installation instructions."""
    try:
        import sahi  # noqa: F401
    except ImportError as error:
        raise ImportError("Sliced inference needs sahi: pip install sahi.") from error
    return importlib.import_module(f"sahi.{module}")
