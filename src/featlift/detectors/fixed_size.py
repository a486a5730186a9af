"""Detection in images of one size, whatever their aspect ratio, as PASCAL VOC's SSD300 (FDSR, Table 3)."""

import re
from collections.abc import Sequence

import torch.nn.functional as nnf
from torch import Tensor, nn
from torchvision.models.detection.transform import resize_boxes

from featlift.features import Target


class FixedSizeDetector(nn.Module):
    """``detector`` on images that are resized to ``size``; detections are in pixels of the given images.

    Args:
        detector: Detector with torchvision's interface. A test size of its own is applied afterwards.
        size: Height and width in pixels.
    """

    def __init__(self, detector: nn.Module, size: tuple[int, int]) -> None:
        super().__init__()
        self.detector, self.size = detector, size

    def forward(self, images: Sequence[Tensor]) -> list[Target]:
        """List of ``[3, H, W]`` in 0…1 → detections: boxes ``[N, 4]`` xyxy, labels, scores, masks ``[N, 1, H, W]``."""
        found = self.detector([resize_to(image, self.size) for image in images])
        return [self._in_pixels(each, image.shape[-2:]) for each, image in zip(found, images, strict=True)]

    def _in_pixels(self, detections: Target, size: Sequence[int]) -> Target:
        resized = {**detections, "boxes": resize_boxes(detections["boxes"], list(self.size), list(size))}
        if "masks" in detections:
            masks = detections["masks"].float().reshape(-1, 1, *self.size)
            resized["masks"] = nnf.interpolate(masks, list(size), mode="bilinear", align_corners=False)
        return resized


def resize_to(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize ``image [3, H, W]`` to ``size`` (height, width) by antialiased bilinear interpolation, without keeping its aspect ratio."""
    return nnf.interpolate(image[None], size, mode="bilinear", align_corners=False, antialias=True)[0].clamp(0, 1)


def parse_image_size(size: str) -> tuple[int, int]:
    """Height and width in pixels of ``size``: "HxW", or "H" for a square.

    Raises:
        ValueError: If ``size`` has another format.
    """
    match = re.fullmatch(r"([1-9]\d*)(?:x([1-9]\d*))?", size)
    if not match:
        raise ValueError(f"'{size}' is not a size; write HEIGHTxWIDTH or one side in pixels, as in 800x1216.")
    return int(match[1]), int(match[2] or match[1])
