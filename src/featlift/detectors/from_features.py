"""Compute losses and detections of a detector from precomputed features.

torchvision's detectors do not provide this: AFI-GAN's stage 2 needs, from a single forward pass, both the features (for the discriminator)
and the detection losses. Works with all torchvision-style detectors.
"""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torchvision.models.detection.fcos import FCOS
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.retinanet import RetinaNet

from featlift.features import Features, Target

DenseOutputs = tuple[dict[str, Tensor], list[Tensor], list[int]]
"""Head outputs ``[B, ΣHWA, …]`` by name, anchors ``[ΣHWA, 4]`` per image, and the number of cells per level."""


def losses_from_features(
    detector: nn.Module, images: ImageList, features: Features, targets: Sequence[Target]
) -> dict[str, Tensor]:
    """Compute the losses of a detector, as scalars by name with a graph to ``features``.

    Args:
        detector: Detector in training mode.
        images: Batch of the features, as returned by ``detector.transform``.
        features: Level → ``[B, C, H, W]``.
        targets: One per image: boxes ``[N, 4]`` xyxy in pixels of ``images``, labels ``[N]``, and masks for a mask detector.

    Raises:
        ValueError: If the detector is in evaluation mode.
        TypeError: If it is not a torchvision-style detector.
    """
    if not detector.training:
        raise ValueError("losses_from_features needs the detector in training mode: call detector.train() first.")
    if isinstance(detector, GeneralizedRCNN):
        proposals, rpn_losses = detector.rpn(images, features, targets)
        _, head_losses = detector.roi_heads(features, proposals, images.image_sizes, targets)
        return {**head_losses, **rpn_losses}
    return dense_losses(detector, dense_outputs(detector, images, features), targets)


def detections_from_features(detector: nn.Module, images: ImageList, features: Features) -> list[dict[str, Tensor]]:
    """Compute the detections from features.

    Args:
        detector: Detector in evaluation mode.
        images: Batch of the features, as returned by ``detector.transform``.
        features: Level → ``[B, C, H, W]``.

    Returns:
        Per image: boxes ``[N, 4]`` xyxy in pixels of ``images``, labels ``[N]``, scores ``[N]``, and masks ``[N, 1, 28, 28]`` of a mask
        detector. ``detector.transform.postprocess`` maps boxes and masks to the original images.

    Raises:
        ValueError: If the detector is in training mode.
        TypeError: If it is not a torchvision-style detector.
    """
    if detector.training:
        raise ValueError("detections_from_features needs the detector in evaluation mode: call detector.eval() first.")
    if isinstance(detector, GeneralizedRCNN):
        proposals, _ = detector.rpn(images, features)
        return detector.roi_heads(features, proposals, images.image_sizes)[0]
    return dense_detections(detector, dense_outputs(detector, images, features), images)


def dense_losses(detector: nn.Module, outputs: DenseOutputs, targets: Sequence[Target]) -> dict[str, Tensor]:
    """Compute the losses of RetinaNet or FCOS, as scalars by name, from the result of :func:`dense_outputs`."""
    heads, anchors, cells = outputs
    if isinstance(detector, FCOS):
        return detector.compute_loss(list(targets), heads, anchors, cells)
    return detector.compute_loss(list(targets), heads, anchors)  # type: ignore[operator]


def dense_detections(detector: nn.Module, outputs: DenseOutputs, images: ImageList) -> list[dict[str, Tensor]]:
    """Compute the detections of RetinaNet or FCOS, as :func:`detections_from_features`, from the result of :func:`dense_outputs`."""
    heads, anchors, cells = outputs
    anchors_per_cell = next(iter(heads.values())).shape[1] // sum(cells)
    counts = [num_cells * anchors_per_cell for num_cells in cells]
    split = {name: list(output.split(counts, dim=1)) for name, output in heads.items()}
    return detector.postprocess_detections(split, [list(a.split(counts)) for a in anchors], images.image_sizes)  # type: ignore[operator]


def dense_outputs(detector: nn.Module, images: ImageList, features: Features) -> DenseOutputs:
    """Run the head of RetinaNet or FCOS on ``features``. Raises TypeError for another detector."""
    if not isinstance(detector, (RetinaNet, FCOS)):
        raise TypeError(
            f"{type(detector).__name__} is not a supported detector; use a detector of torchvision's GeneralizedRCNN family, "
            "RetinaNet and FCOS, or a subclass."
        )
    maps: list[Any] = list(features.values())
    cells = [x.shape[-2] * x.shape[-1] for x in maps]
    return detector.head(maps), detector.anchor_generator(images, maps), cells
