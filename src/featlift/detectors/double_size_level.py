"""Detection with p2 of the image at twice the size as level of small RoIs: EFPN's upper bound (Table III, "FPN-1400 + P2-2800")."""

from typing import Any

from torch import Tensor, nn
from torchvision.models.detection.roi_heads import RoIHeads

from featlift.detectors.efpn import EFPNRoIHeads, ExclusiveRouting, ExtendedExtractor
from featlift.detectors.extractor import Extractor
from featlift.detectors.multi_scale import Detections, scale_transform
from featlift.detectors.single_level import single_level_pooling
from featlift.features import Features


class DoubleSizeLevelDetector(nn.Module):
    """Detector whose small RoIs are pooled from p2 of the image at twice the size, instead of EFPN's p2x; nothing is trained.

    The map is computed by the detector's own backbone and pyramid, so a Faster or Mask R-CNN classifies its RoIs with the head that it
    has; an EFPN classifies them with its new head, which was trained to read p2x. Images are processed one at a time.

    Args:
        detector: Faster or Mask R-CNN on an FPN or PAFPN from p2, or an EFPN; it is not changed.
        small_roi_size: RoIs with √(w·h) below this, in pixels of the resized image, are pooled from the map (56 on TT100K, 112 on COCO).

    Raises:
        TypeError: If the detector is none of these.
        ValueError: If ``small_roi_size`` is not positive.
    """

    def __init__(self, detector: nn.Module, small_roi_size: float):
        super().__init__()
        extractor = getattr(detector, "backbone", None)
        heads = getattr(detector, "roi_heads", None)
        if type(heads) not in (RoIHeads, EFPNRoIHeads) or not isinstance(extractor, Extractor | ExtendedExtractor):
            raise TypeError(
                f"p2 of the image at twice the size is for a Faster or Mask R-CNN or an EFPN; the RoI heads of this "
                f"{type(detector).__name__} are {type(heads).__name__}."
            )
        if extractor.levels[0] != "p2":
            raise TypeError(
                f"The finest level of this detector is {extractor.levels[0]}, not p2; choose an FPN or PAFPN."
            )
        if small_roi_size <= 0:
            raise ValueError(f"The size of small RoIs is {small_roi_size}; give a number of pixels above 0.")
        self.detector = detector
        self.heads = _route_small_rois(heads, small_roi_size)

    def forward(self, images: list[Tensor]) -> list[Detections]:
        """List of ``[3, H, W]`` in 0…1 → detections as the detector's: boxes ``[N, 4]`` xyxy in image pixels, labels, scores.

        Raises:
            RuntimeError: In training mode.
        """
        if self.training:
            raise RuntimeError("p2 of the image at twice the size is for evaluation only: call eval() first.")
        return [self._detect(image) for image in images]

    def _detect(self, image: Tensor) -> Detections:
        detector: Any = self.detector
        batch, _ = detector.transform([image])
        features = detector.backbone(batch.tensors)
        large = scale_transform(detector.transform, 2.0, image)([image])[0].tensors  # type: ignore[operator]
        proposals, _ = detector.rpn(batch, {level: features[level] for level in detector.backbone.levels})
        with_p2x = {**features, "p2x": detector.backbone(large)["p2"]}
        detections, _ = self.heads(with_p2x, proposals, batch.image_sizes)
        return detector.transform.postprocess(detections, batch.image_sizes, [tuple(image.shape[-2:])])[0]


def _route_small_rois(heads: Any, small_roi_size: float) -> EFPNRoIHeads:
    """Return RoI heads that share the modules of ``heads`` and pool RoIs below ``small_roi_size`` from the map "p2x"."""
    if isinstance(heads, EFPNRoIHeads):
        coarse, fine = heads.coarse, heads.fine
    else:
        coarse, fine = heads, nn.Sequential(heads.box_head, heads.box_predictor)
    pooling = single_level_pooling(coarse.box_roi_pool, "p2x")

    def read(features: Features, boxes: Any) -> Tensor:
        return pooling(features, list(boxes), [])

    return EFPNRoIHeads(coarse, fine, ExclusiveRouting(small_roi_size), read)
