"""Detectors and feature extractors by name: run folders, torchvision's models, and timm's."""

from collections.abc import Sequence
from pathlib import Path

import torchvision
from torch import nn
from torchvision.models import detection

from featlift.backbones import Backbone
from featlift.checkpoints import load_state_file
from featlift.detectors.checkpoint import load_detector
from featlift.detectors.feature_extraction import FeatureExtractor, detector_feature_extractor, resolve_layer

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
    names = torchvision.models.list_models(module=detection)
    if model not in names:
        raise ValueError(f"'{model}' is neither a run folder nor a torchvision detector ({', '.join(names)}).")
    if weights == "DEFAULT":
        return torchvision.models.get_model(model, weights="DEFAULT")
    detector = torchvision.models.get_model(model, weights=None, weights_backbone=None, num_classes=num_classes + 1)
    if weights != "none":
        print(load_state_file(detector, weights))
    return detector


def load_feature_extractor(network: str, layers: Sequence[str]) -> FeatureExtractor:
    """Load a feature extractor of a trained detector or of a pretrained network, whose weights are **downloaded** if not cached.

    Args:
        network: Run folder, detector file, torchvision detector (COCO), torchvision classifier (ImageNet), or timm network.
        layers: Layers, as for :func:`featlift.detectors.feature_extraction.resolve_layer`; c2 … c5 for a timm network.

    Raises:
        ValueError: If the network or a layer does not exist.
    """
    if Path(network).exists() or network in torchvision.models.list_models(detection):
        return detector_feature_extractor(load_detector_by_name(network, "DEFAULT"), layers)
    if network in torchvision.models.list_models(torchvision.models):
        model = torchvision.models.get_model(network, weights="DEFAULT")
        return FeatureExtractor(model, [resolve_layer(model, layer) for layer in layers])
    return FeatureExtractor(Backbone(network, tuple(layers), "frozen", True), layers, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
