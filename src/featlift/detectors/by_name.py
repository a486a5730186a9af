"""Detectors by name: run folders, and torchvision's models."""

from pathlib import Path

from torch import nn

from featlift.checkpoints import load_state_file
from featlift.detectors.checkpoint import load_detector

COCO_LABELS = 91
"""Labels of torchvision's COCO detectors, with the background."""


def load_detector_by_name(model: str, weights: str = "none", num_classes: int = COCO_LABELS - 1) -> nn.Module:
    """Load the detector of the run folder or file ``model``, or build torchvision's detector of that name.

    Args:
        model: Run folder, detector file, or name of a torchvision detector such as "fasterrcnn_resnet50_fpn".
        weights: For torchvision: "none", "DEFAULT" (downloaded once; COCO's classes) or the path of a file.
        num_classes: Number of classes without background, for torchvision's detectors without "DEFAULT" weights.

    Raises:
        ValueError: If there is no such run folder, file or torchvision detector.
    """
    if Path(model).exists():
        return load_detector(model)[0]
    from torchvision.models import detection, get_model, list_models

    names = list_models(module=detection)
    if model not in names:
        raise ValueError(f"'{model}' is neither a run folder nor a torchvision detector ({', '.join(names)}).")
    if weights == "DEFAULT":
        return get_model(model, weights="DEFAULT")
    detector = get_model(model, weights=None, weights_backbone=None, num_classes=num_classes + 1)
    if weights != "none":
        print(load_state_file(detector, weights))
    return detector
