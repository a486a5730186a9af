"""Features of pretrained networks and detectors at named layers, and detector losses without side effects on the detector."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torchvision
from torch import Tensor, nn
from torchvision.models import detection

from featlift.backbones import Backbone
from featlift.detectors.batch_transform import BatchTransform
from featlift.detectors.feature_extraction import FeatureExtractor
from featlift.features import Target

MODE_DEPENDENT_LAYERS = (nn.modules.batchnorm._NormBase, nn.modules.dropout._DropoutNd)
"""Layers that differ between training and evaluation: normalization statistics and dropout."""


def pretrained_detector(name: str) -> nn.Module:
    """Return torchvision's detector ``name`` with its default weights (COCO; **downloaded** if not cached).

    Raises:
        ValueError: If torchvision has no such detector.
    """
    names = torchvision.models.list_models(detection)
    if name not in names:
        raise ValueError(
            f"There is no detector '{name}': not a run folder, not a file, not a torchvision detector ({', '.join(names)})."
        )
    return torchvision.models.get_model(name, weights="DEFAULT")


def pretrained_feature_extractor(name: str, layers: Sequence[str]) -> FeatureExtractor:
    """Return a feature extractor of a pretrained network; weights are **downloaded** if not cached.

    Args:
        name: torchvision detector (COCO), torchvision classifier (ImageNet), or timm network.
        layers: Layers, as for :func:`resolve_layer`; c2 … c5 for a timm network.

    Raises:
        ValueError: If the name is unknown.
    """
    if name in torchvision.models.list_models(detection):
        return detector_feature_extractor(pretrained_detector(name), layers)
    if name in torchvision.models.list_models(torchvision.models):
        model = torchvision.models.get_model(name, weights="DEFAULT")
        return FeatureExtractor(model, [resolve_layer(model, layer) for layer in layers])
    return FeatureExtractor(Backbone(name, tuple(layers), "frozen", True), layers, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


def detector_feature_extractor(detector: nn.Module, layers: Sequence[str]) -> FeatureExtractor:
    """Return a feature extractor of the backbone of ``detector`` with its normalization; parameters are shared with the detector."""
    backbone: nn.Module = detector.backbone  # type: ignore[assignment]
    names, transform = [resolve_layer(backbone, layer) for layer in layers], detector.transform
    if isinstance(transform, BatchTransform):
        return FeatureExtractor(backbone, names, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    return FeatureExtractor(backbone, names, transform.image_mean, transform.image_std)  # type: ignore[union-attr, arg-type]


def resolve_layer(network: nn.Module, layer: str) -> str:
    """Return the layer name of a level such as "c4" or "p3" in a FeatLift extractor, a ResNet, or a torchvision ResNet-FPN.

    Other values of ``layer`` are returned unchanged, as layer names of :func:`featlift.detectors.feature_extraction.extract_features`.
    """
    if not (len(layer) == 2 and layer[0] in "cp" and layer[1].isdigit()):
        return layer
    kind, number = layer[0], int(layer[1])
    if hasattr(network, "body"):
        return f"body.layer{number - 1}" if kind == "c" else str(number - 2)
    if hasattr(network, "layer4"):
        return f"layer{number - 1}"
    return f"backbone.{layer}" if kind == "c" else layer


def eval_mode_losses(detector: nn.Module, images: Tensor, targets: Sequence[Target]) -> dict[str, Tensor]:
    """Compute the losses of ``detector`` on ``images [B, 3, H, W]`` in 0…1, with normalization and dropout in evaluation mode.

    torchvision's detectors return losses in training mode only, so all layers except :data:`MODE_DEPENDENT_LAYERS` are temporarily in
    training mode. Statistics do not change; gradients reach the images.
    """
    with _restore_training_flags(detector):
        for module in detector.modules():
            module.training = not isinstance(module, MODE_DEPENDENT_LAYERS)
        return detector(list(images), [dict(target) for target in targets])


@contextmanager
def eval_mode(module: nn.Module) -> Iterator[None]:
    """Set ``module`` to evaluation mode; on exit, restore the mode of every submodule."""
    with _restore_training_flags(module):
        for submodule in module.modules():
            submodule.training = False
        yield


@contextmanager
def _restore_training_flags(module: nn.Module) -> Iterator[None]:
    modes = {submodule: submodule.training for submodule in module.modules()}
    try:
        yield
    finally:
        for submodule, training in modes.items():
            submodule.training = training
