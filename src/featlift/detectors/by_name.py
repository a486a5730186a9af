"""Detectors and feature extractors by name: run folders, torchvision's models, and timm's."""

from collections.abc import Sequence

import torchvision
from torch import nn
from torchvision.models import detection

from featlift.backbones import Backbone
from featlift.backbones.weight_files import explain_failed_download
from featlift.checkpoints import load_state_file
from featlift.detectors.checkpoint import is_detector_path, load_detector, read_class_names
from featlift.detectors.feature_extraction import FeatureExtractor, detector_feature_extractor, resolve_layer

COCO_LABELS = 91
"""Labels of torchvision's COCO detectors, with the background."""


def load_detector_by_name(model: str, weights: str = "none", num_classes: int = COCO_LABELS - 1) -> nn.Module:
    """Load the detector of the run folder or file ``model``, or build torchvision's detector of that name.

    Args:
        model: Run folder, detector file, repository ("hub:OWNER/NAME"), or torchvision detector such as "fasterrcnn_resnet50_fpn".
        weights: For torchvision: "none", "DEFAULT" (downloaded once; COCO's classes) or the path of a file.
        num_classes: Number of classes without background, for torchvision's detectors without "DEFAULT" weights.

    Raises:
        ValueError: If there is no such run folder, file or torchvision detector.
        OSError: If the weights cannot be downloaded.
    """
    if is_detector_path(model):
        return load_detector(model)[0]
    names = list_detector_names()
    if model not in names:
        raise ValueError(f"'{model}' is neither a run folder nor a torchvision detector ({', '.join(names)}).")
    if weights == "DEFAULT":
        with explain_failed_download(
            f"The COCO weights of '{model}'", "Give a file: --weights FILE; or --weights none."
        ):
            return torchvision.models.get_model(model, weights="DEFAULT")
    detector = torchvision.models.get_model(model, weights=None, weights_backbone=None, num_classes=num_classes + 1)
    if weights != "none":
        print(load_state_file(detector, weights))
    return detector


def is_detector_name(model: str) -> bool:
    """Whether :func:`load_detector_by_name` takes ``model``: an existing run folder or file, or the name of a torchvision detector."""
    return is_detector_path(model) or model in list_detector_names()


def list_detector_names() -> list[str]:
    """Return the names of torchvision's detectors."""
    return torchvision.models.list_models(module=detection)


def list_coco_labels(model: str) -> list[str]:
    """Return the names of the labels 0 (background), 1, … of torchvision's "DEFAULT" weights of the detector ``model``.

    Raises:
        ValueError: If there is no such detector.
    """
    return list(torchvision.models.get_model_weights(model)["DEFAULT"].meta["categories"])


def load_class_names(model: str) -> list[str]:
    """Return the class names of the detector of a run folder or file, or of torchvision's COCO detector ``model``.

    The latter has one entry per label, with ``"__background__"`` for 0 and ``"N/A"`` for labels without a class.
    """
    return read_class_names(model) if is_detector_path(model) else list_coco_labels(model)


def load_feature_extractor(network: str, layers: Sequence[str]) -> FeatureExtractor:
    """Load a feature extractor of a trained detector or of a pretrained network, whose weights are **downloaded** if not cached.

    Args:
        network: Run folder, detector file, torchvision detector (COCO), torchvision classifier (ImageNet), or timm network.
        layers: Layers, as for :func:`featlift.detectors.feature_extraction.resolve_layer`; c2 … c5 for a timm network.

    Raises:
        ValueError: If the network or a layer does not exist.
        OSError: If the weights cannot be downloaded.
    """
    if is_detector_path(network):
        return detector_feature_extractor(load_detector(network)[0], layers)
    remedy = "Name a run folder with --feature-extractor.network."
    with explain_failed_download(f"The weights of '{network}'", remedy):
        return _download_feature_extractor(network, layers)


def _download_feature_extractor(network: str, layers: Sequence[str]) -> FeatureExtractor:
    if network in torchvision.models.list_models(detection):
        return detector_feature_extractor(load_detector_by_name(network, "DEFAULT"), layers)
    if network in torchvision.models.list_models(torchvision.models):
        model = torchvision.models.get_model(network, weights="DEFAULT")
        return FeatureExtractor(model, [resolve_layer(model, layer) for layer in layers])
    return FeatureExtractor(Backbone(network, tuple(layers), "frozen", True), layers, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
