"""The maximum number of detections per image, a setting of every torchvision-style detector."""

from typing import Any

from torch import nn


def limit_detections(detector: nn.Module, max_detections: int) -> None:
    """Set the maximum number of detections per image: torchvision's ``detections_per_img`` of the detector or its parts.

    Raises:
        ValueError: If ``max_detections`` is below 1.
        TypeError: If the detector has no such limit.
    """
    if max_detections < 1:
        raise ValueError(f"max_detections is {max_detections}; it is the number of detections per image, at least 1.")
    limited: list[Any] = [module for module in detector.modules() if getattr(module, "detections_per_img", 0)]
    if not limited:
        raise TypeError(f"{type(detector).__name__} has no detections_per_img, torchvision's limit of detections.")
    for module in limited:
        module.detections_per_img = max_detections
