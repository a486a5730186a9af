"""A detector's losses and detections from features that are already there.

The one thing torchvision's detectors lack: AFI-GAN's stage 2 needs, from a single forward, both the features (for the critic) and the
detection losses. Works with every torchvision detector, ours or not.
"""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torchvision.models.detection.fcos import FCOS
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.retinanet import RetinaNet

from featlift.features import Features

Target = dict[str, Tensor]
DenseOutputs = tuple[dict[str, Tensor], list[Tensor], list[int]]
"""Head outputs ``[B, ΣHWA, …]`` by name, anchors per picture ``[ΣHWA, 4]``, and the cells of each level."""


def losses_from_features(
    detector: nn.Module, images: ImageList, features: Features, targets: Sequence[Target]
) -> dict[str, Tensor]:
    """The detector's losses, by name, each a scalar with a graph to ``features``.

    Args:
        detector: in training mode.
        images: the batch that ``features`` come from, as ``detector.transform`` returns it.
        features: level → ``[B, C, H, W]``.
        targets: one per picture: boxes ``[N, 4]`` xyxy in the pixels of ``images``, labels ``[N]``, masks if the detector draws masks.

    Raises:
        ValueError: if the detector is in evaluation mode.
        TypeError: if it is no torchvision-style detector.
    """
    if not detector.training:
        raise ValueError("losses_on needs the detector in training mode: call detector.train() first.")
    if isinstance(detector, GeneralizedRCNN):
        proposals, losses = detector.rpn(images, features, targets)
        _, more = detector.roi_heads(features, proposals, images.image_sizes, targets)
        return {**more, **losses}
    return dense_losses(detector, dense_outputs(detector, images, features), targets)


def detections_from_features(detector: nn.Module, images: ImageList, features: Features) -> list[dict[str, Tensor]]:
    """The detections on ``features``: boxes ``[N, 4]`` xyxy in the pixels of ``images``, labels ``[N]``, scores ``[N]``.

    A detector that draws masks adds them as ``[N, 1, 28, 28]``, one for each box. To have the boxes in the pixels of the original
    pictures, and the masks pasted there, pass the list through ``detector.transform.postprocess``.

    Raises:
        ValueError: if the detector is in training mode.
        TypeError: if it is no torchvision-style detector.
    """
    if detector.training:
        raise ValueError("detections_on needs the detector in evaluation mode: call detector.eval() first.")
    if isinstance(detector, GeneralizedRCNN):
        proposals, _ = detector.rpn(images, features)
        return detector.roi_heads(features, proposals, images.image_sizes)[0]
    return dense_detections(detector, dense_outputs(detector, images, features), images)


def dense_losses(detector: nn.Module, outputs: DenseOutputs, targets: Sequence[Target]) -> dict[str, Tensor]:
    """The losses of RetinaNet or FCOS, each a scalar, from what :func:`dense_outputs` gave."""
    heads, anchors, cells = outputs
    if isinstance(detector, FCOS):
        return detector.compute_loss(list(targets), heads, anchors, cells)
    return detector.compute_loss(list(targets), heads, anchors)  # type: ignore[operator]


def dense_detections(detector: nn.Module, outputs: DenseOutputs, images: ImageList) -> list[dict[str, Tensor]]:
    """The detections of RetinaNet or FCOS, as :func:`detections_from_features` gives them, from what :func:`dense_outputs` gave."""
    heads, anchors, cells = outputs
    per_cell = next(iter(heads.values())).shape[1] // sum(cells)
    counts = [cell * per_cell for cell in cells]
    split = {name: list(output.split(counts, dim=1)) for name, output in heads.items()}
    return detector.postprocess_detections(split, [list(a.split(counts)) for a in anchors], images.image_sizes)  # type: ignore[operator]


def dense_outputs(detector: nn.Module, images: ImageList, features: Features) -> DenseOutputs:
    """What the head of RetinaNet or FCOS says of ``features``. Raises TypeError for another detector."""
    if not isinstance(detector, (RetinaNet, FCOS)):
        raise TypeError(
            f"{type(detector).__name__} is not a detector this library can drive from features; "
            "it drives torchvision's GeneralizedRCNN family, RetinaNet and FCOS, and what is derived from them."
        )
    maps: list[Any] = list(features.values())
    cells = [x.shape[-2] * x.shape[-1] for x in maps]
    return detector.head(maps), detector.anchor_generator(images, maps), cells
