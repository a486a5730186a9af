"""Distillation of a level that shares the finest head, without labels: from the detector itself on the enlarged image.

Features alone are a poor target, so the loss is also taken from what the frozen head says of them.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as nnf
from torch import Tensor
from torchvision.ops import generalized_box_iou_loss

from featlift.upgrading.extended_detector import ExtendedDetector, run_plain, student_maps
from featlift.upgrading.extended_family import LevelPredictions

MIN_WEIGHT = 0.003
"""Cells with a smaller weight are left out of the losses of classes and boxes."""
LARGE_BOX_WEIGHT = 0.25
"""Weight of boxes above the size limit, which the level does not add."""


@dataclass(frozen=True)
class LevelLossWeights:
    """Weights of the losses.

    Attributes:
        maps: Relative L1 distances of the coarsest map and of the finest map.
        scores: Divergences of objectness, centerness and classes.
        boxes: 1 - generalized IoU.
        max_size: Boxes of the teacher below this size (square root of the area, px of the network's input) have full weight.
    """

    maps: float = 1.0
    scores: float = 1.0
    boxes: float = 3.0
    max_size: float = 48.0


def shared_head_losses(
    model: ExtendedDetector, image: Tensor, weights: LevelLossWeights | None = None
) -> dict[str, Tensor]:
    """Compute the distillation losses of the level for the network's input ``image [B, 3, H, W]``.

    The teacher is the detector on the image enlarged by 2 (bilinear): it sees no pixel that the student does not see. Only the level has
    gradients.

    Returns:
        Scalars by name, weighted: "maps", "classes", "boxes", and "objectness" or "centerness" if the head has it.
    """
    weights = weights or LevelLossWeights()
    family = model.level_family
    with torch.no_grad():
        plain = run_plain(model, family, image)
    maps, coarse, early = student_maps(model, plain)
    image_size = (image.shape[-2], image.shape[-1])
    with torch.no_grad():
        target_coarse = family.coarse_map(model, early)
        target_maps = family.finest_maps(model, early, target_coarse)
        teacher = family.predict(model, target_maps, image_size)
    losses = {"maps": weights.maps * (relative_l1(coarse, target_coarse) + relative_l1(maps[0], target_maps[0]))}
    return losses | prediction_losses(family.predict(model, maps, image_size), teacher, weights)


def prediction_losses(
    student: LevelPredictions, teacher: LevelPredictions, weights: LevelLossWeights
) -> dict[str, Tensor]:
    """Losses of scores and boxes, each divided by the sum of the teacher's confidence.

    The logit that decides whether there is an object (objectness, or the classes of a head without it) is compared in all cells, the
    others where the teacher is confident, in proportion to its confidence.
    """
    confidence = teacher.scores.amax(-1)
    total = confidence.sum().clamp(min=1)
    cell_weights = confidence * torch.where(teacher.sizes < weights.max_size, 1.0, LARGE_BOX_WEIGHT)
    is_selected = cell_weights > MIN_WEIGHT
    selected = cell_weights[is_selected]
    classes = bernoulli_divergence(student.class_logits, teacher.class_logits).sum(-1)
    losses: dict[str, Tensor] = {}
    if student.objectness_logits is not None and teacher.objectness_logits is not None:
        objectness = bernoulli_divergence(student.objectness_logits, teacher.objectness_logits)
        losses["objectness"] = weights.scores * objectness.sum() / total
        classes = cell_weights * is_selected * classes
    losses["classes"] = weights.scores * classes.sum() / total
    if student.centerness_logits is not None and teacher.centerness_logits is not None:
        centerness = bernoulli_divergence(student.centerness_logits, teacher.centerness_logits)
        losses["centerness"] = weights.scores * (selected * centerness[is_selected]).sum() / total
    boxes = generalized_box_iou_loss(student.boxes[is_selected].float(), teacher.boxes[is_selected].float())
    losses["boxes"] = weights.boxes * (selected * boxes).sum() / total
    return losses


def bernoulli_divergence(logits: Tensor, target_logits: Tensor) -> Tensor:
    """Kullback-Leibler divergence from ``target_logits`` to ``logits`` (binary cross-entropy minus its minimum), elementwise."""
    probabilities = target_logits.sigmoid()
    cross_entropy = nnf.binary_cross_entropy_with_logits(logits, probabilities, reduction="none")
    return cross_entropy - nnf.binary_cross_entropy_with_logits(target_logits, probabilities, reduction="none")


def relative_l1(values: Tensor, target: Tensor) -> Tensor:
    """L1 distance divided by the L1 norm of ``target``."""
    return (values - target).abs().sum() / target.abs().sum().clamp(min=1e-6)
