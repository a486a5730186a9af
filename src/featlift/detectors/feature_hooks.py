"""Networks as judges of pictures: their features at any place, and a detector's losses without moving anything in it."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torchvision
from torch import Tensor, nn
from torchvision.models import detection

from featlift.backbones import Backbone
from featlift.detectors.batch_transform import BatchTransform
from featlift.detectors.feature_extraction import FeatureExtractor

Target = dict[str, Tensor]
MODE_DEPENDENT_LAYERS = (nn.modules.batchnorm._NormBase, nn.modules.dropout._DropoutNd)
"""What behaves differently in training: statistics that move, values that are dropped."""


def pretrained_detector(name: str) -> nn.Module:
    """Torchvision's detector called ``name``, with the weights it has for it (COCO's; **downloaded** if they are not cached).

    Raises:
        ValueError: if torchvision has none of that name.
    """
    known = torchvision.models.list_models(detection)
    if name not in known:
        raise ValueError(
            f"There is no detector '{name}': neither a run folder nor a file, nor one of torchvision's: {', '.join(known)}."
        )
    return torchvision.models.get_model(name, weights="DEFAULT")


def pretrained_feature_extractor(name: str, layers: Sequence[str]) -> FeatureExtractor:
    """A published network at ``layers``; its weights are **downloaded** if they are not cached.

    ``name`` is a detector of torchvision's (COCO), a classifier of torchvision's (ImageNet), or a network of timm's, at c2 … c5.

    Raises:
        ValueError: if none of them has that name.
    """
    if name in torchvision.models.list_models(detection):
        return detector_feature_extractor(pretrained_detector(name), layers)
    if name in torchvision.models.list_models(torchvision.models):
        trunk = torchvision.models.get_model(name, weights="DEFAULT")
        return FeatureExtractor(trunk, [resolve_layer(trunk, layer) for layer in layers])
    return FeatureExtractor(Backbone(name, tuple(layers), "frozen", True), layers, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


def detector_feature_extractor(detector: nn.Module, layers: Sequence[str]) -> FeatureExtractor:
    """The trunk of ``detector`` at ``layers``, normalizing pictures as the detector does; it shares the detector's parameters."""
    trunk: nn.Module = detector.backbone  # type: ignore[assignment]
    places, transform = [resolve_layer(trunk, layer) for layer in layers], detector.transform
    if isinstance(transform, BatchTransform):
        return FeatureExtractor(trunk, places, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    return FeatureExtractor(trunk, places, transform.image_mean, transform.image_std)  # type: ignore[union-attr, arg-type]


def resolve_layer(network: nn.Module, layer: str) -> str:
    """Where "c4" or "p3" is in ``network``: one of our extractors, a ResNet, or a torchvision ResNet with a pyramid.

    Anything else is taken for the dotted name of a module (see :func:`featlift.detectors.feature_extraction.extract_features`).
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
    """``detector``'s own losses on ``images [B, 3, H, W]`` in 0…1, with normalization and dropout as in evaluation.

    Torchvision's detectors give losses in training mode only, so everything but those layers is put into it for a moment. No
    statistics move; gradients reach the pictures.
    """
    with _restore_training_flags(detector):
        for part in detector.modules():
            part.training = not isinstance(part, MODE_DEPENDENT_LAYERS)
        return detector(list(images), [dict(target) for target in targets])


@contextmanager
def eval_mode(module: nn.Module) -> Iterator[None]:
    """``module`` in evaluation mode; afterwards each of its parts is in the mode that it had."""
    with _restore_training_flags(module):
        for part in module.modules():
            part.training = False
        yield


@contextmanager
def _restore_training_flags(module: nn.Module) -> Iterator[None]:
    modes = {part: part.training for part in module.modules()}
    try:
        yield
    finally:
        for part, mode in modes.items():
            part.training = mode
