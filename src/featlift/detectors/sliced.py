"""Sliced inference (Akyon et al., ICIP 2022), by its authors' library sahi: what is done today about small objects in large pictures.

The detector looks at overlapping slices of the picture, enlarged, and at the picture itself; of boxes of one class that overlap the best
is kept. (sahi's own default joins them into a larger one, but not where scores are low, as when average precision is measured.)
"""

import importlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from featlift.detectors.multi_scale import Detections, scale_transform


class SliceDetector(nn.Module):
    """A detector that looks at a slice of a picture at ``scale`` times its usual size, and at a whole picture as usual.

    Args:
        detector: under torchvision's contract, with torchvision's ``transform``; it is not changed.
        slice_size: whatever has no side longer than this, in px, is a slice.
        scale: factor of the size that the detector would look at.
    """

    def __init__(self, detector: nn.Module, slice_size: int, scale: float):
        super().__init__()
        self.detector, self.slice_size, self.scale = detector, slice_size, scale

    def forward(self, images: list[Tensor]) -> list[Detections]:
        """One ``[3, H, W]`` in 0…1 in a list → as the detector answers, boxes ``[N, 4]`` in its px."""
        usual: Any = self.detector.transform
        if max(images[0].shape[-2:]) <= self.slice_size:
            self.detector.transform = scale_transform(usual, self.scale, images[0])
        try:
            return self.detector(images)
        finally:
            self.detector.transform = usual


class SAHIDetector(nn.Module):
    """A detector that looks at every picture in slices, and as a whole; one picture at a time.

    It answers with boxes, labels and scores; masks are not kept. sahi works on 8-bit pictures, so the detector sees them rounded.

    Args:
        detector: under torchvision's contract, with torchvision's ``transform``; it is not changed.
        class_names: their names; label k is ``classes[k - 1]``.
        slice_size: of a slice in px.
        scale: factor of the size at which the detector would look at a slice (its test size, or else the slice's own).
        overlap_ratio: share of a slice that it has in common with the next.
        score_threshold: detections below it are dropped.
        max_detections: detections kept of a picture, best first.

    Raises:
        ImportError: without sahi; says how to install it.
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
        """List of ``[3, H, W]`` in 0…1 → boxes ``[N, 4]`` xyxy px of the picture, labels and scores ``[N]``."""
        return [self._detect(image) for image in images]

    def _detect(self, image: Tensor) -> Detections:
        model = _import_sahi("models.torchvision").TorchVisionDetectionModel(
            model=self.slice_detector,
            confidence_threshold=self.score_threshold,
            category_mapping=self.category_mapping,
            device=str(image.device),
        )
        found = _import_sahi("predict").get_sliced_prediction(
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
        return _to_torchvision(found.object_prediction_list, self.max_detections, image.device)


def _to_torchvision(predictions: Sequence[Any], max_detections: int, device: torch.device) -> Detections:
    """sahi's objects as torchvision's answer, best first."""
    best = sorted(predictions, key=lambda one: -one.score.value)[:max_detections]
    boxes = torch.tensor([one.bbox.to_xyxy() for one in best], dtype=torch.float32).reshape(-1, 4)
    labels = torch.tensor([one.category.id for one in best], dtype=torch.int64)
    scores = torch.tensor([float(one.score.value) for one in best])
    return {"boxes": boxes.to(device), "labels": labels.to(device), "scores": scores.to(device)}


def _import_sahi(module: str) -> Any:
    """``sahi.<module>``."""
    try:
        import sahi  # noqa: F401
    except ImportError as error:
        raise ImportError("Sliced inference needs sahi: pip install 'featlift[sliced]'.") from error
    return importlib.import_module(f"sahi.{module}")
