"""Detectors by name: run folders, and torchvision's models."""

from pathlib import Path

from torch import nn

from featlift.data.config import DataConfig, build_dataset
from featlift.detectors.checkpoint import load_detector


def load_detector_by_name(model: str, weights: str = "none", data: str = "") -> nn.Module:
    """Load the detector of the run folder ``model``, or build torchvision's ``model`` for the classes of ``data``.

    With "DEFAULT" weights, or without ``data``, the classes are COCO's.
    """
    if Path(model).exists():
        return load_detector(model)[0]
    from torchvision.models import get_model

    if model not in _list_torchvision_detectors():
        raise ValueError(
            f"'{model}' is neither a run folder nor a torchvision detector ({', '.join(_list_torchvision_detectors())})."
        )
    if weights == "DEFAULT":
        return get_model(model, weights="DEFAULT")
    num_classes = len(build_dataset(DataConfig(root=data)).classes) if data else 90
    detector = get_model(model, weights=None, weights_backbone=None, num_classes=num_classes + 1)
    if weights != "none":
        from featlift.checkpoints import load_state_file

        print(load_state_file(detector, weights))
    return detector


def _list_torchvision_detectors() -> list[str]:
    from torchvision.models import detection, list_models

    return list_models(module=detection)
