"""Distillation of the extended level without labels: random crops of stored maps, and losses against the pass on the enlarged image."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import generalized_box_iou_loss
from yolox_boxes import decode_boxes
from yolox_cache import CELLS, SCALES, MapCache
from yolox_network import YOLOXNano

CropPosition = tuple[int, int, int]
"""(image, top, left), the last two in cells of 32 px."""

SMALL_SIZE = 48.0
"""Boxes below this size (square root of the area, px of the image with side 416) have full weight in training."""
BORDER = 6
"""Positions at stride 4 near the border of a crop that the losses exclude."""
MIN_WEIGHT = 0.003
"""Minimum weight of a position in the losses of classes and boxes."""


@dataclass(frozen=True)
class DistillationSettings:
    """Settings of a training run."""

    student: str
    options: dict[str, Any]
    steps: int = 8000
    batch_size: int = 8
    crop_size: int = 7
    """Side of a crop in cells of 32 px."""
    learning_rate: float = 2e-3
    warmup_steps: int = 200
    weight_decay: float = 0.05
    ema_decay: float = 0.998
    """Decay of the exponential moving average of the weights, which is evaluated."""
    map_weight: float = 1.0
    """Weight of the relative L1 losses of reduce_conv1's and C3_p3's maps."""
    output_weight: float = 1.0
    """Weight of the losses of the head's output."""
    box_weight: float = 3.0
    seed: int = 0
    precision: str = "bfloat16"
    target: str = "enlarged_output"
    initial_weights: str = ""
    """Checkpoint with the student that training starts from."""


def teacher_sizes(output: Tensor) -> Tensor:
    """``[..., 85]`` at stride 4 → square roots of the boxes' areas ``[...]``, px."""
    return (output[..., 2] + output[..., 3]).div(2).exp() * 4


def find_small_objects(cache: MapCache, name: str, min_score: float = 0.05) -> list[NDArray[np.int64]]:
    """Return for each image the positions ``[N, 2]`` (row, column at stride 4) with a small box of the teacher above ``min_score``."""
    positions = []
    for index in range(len(cache)):
        output = torch.from_numpy(cache.maps[name][index].astype(np.float32))
        scores = output[..., 4].sigmoid() * output[..., 5:].amax(-1).sigmoid()
        positions.append(((scores > min_score) & (teacher_sizes(output) < SMALL_SIZE)).nonzero().numpy())
    return positions


def sample_crops(
    cache: MapCache, crop_size: int, small_objects: Sequence[NDArray[np.int64]], rng: np.random.Generator
) -> Iterator[CropPosition]:
    """Yield positions without end: half of the crops contain a small object of the teacher, the others are uniform."""
    with_small_objects = [index for index, positions in enumerate(small_objects) if len(positions)]
    while True:
        if rng.random() < 0.5:
            index = int(rng.choice(with_small_objects))
            position = small_objects[index][rng.integers(len(small_objects[index]))]
            corner = position / SCALES["enlarged_output"] - rng.uniform(0.15, 0.85, 2) * crop_size
        else:
            index = int(rng.integers(len(cache)))
            extent = np.array(cache.images[index]["extent"])
            corner = rng.uniform(-1, 1 + np.maximum(0, extent / 32 - crop_size))
        top, left = (int(min(max(round(value), 0), CELLS - crop_size)) for value in corner)
        yield index, top, left


def read_batch(
    cache: MapCache, names: Sequence[str], crops: Sequence[CropPosition], crop_size: int
) -> tuple[dict[str, Tensor], Tensor]:
    """Read crops as a batch of maps ``[B, C, h, w]``, and the mask of `interior_mask`."""
    parts = [cache.read(names, index, (top, left, crop_size)) for index, top, left in crops]
    batch = {
        name: torch.cat([part[name] for part in parts]).contiguous(memory_format=torch.channels_last) for name in names
    }
    return batch, interior_mask([(top, left) for _, top, left in crops], crop_size)


def interior_mask(corners: Sequence[tuple[int, int]], crop_size: int) -> Tensor:
    """``[B, 1, h, w]`` at stride 4: 0 within `BORDER` positions of a crop's border, unless it is the border of the image."""
    side = crop_size * SCALES["enlarged_output"]
    mask = torch.zeros(len(corners), 1, side, side)
    for row, corner in enumerate(corners):
        top, left = (0 if start == 0 else BORDER for start in corner)
        bottom, right = (side if start + crop_size == CELLS else side - BORDER for start in corner)
        mask[row, 0, top:bottom, left:right] = 1
    return mask


def distillation_losses(
    network: YOLOXNano, student_map: Tensor, batch: dict[str, Tensor], mask: Tensor, target_name: str
) -> dict[str, Tensor]:
    """Compute all losses of ``student_map [B, 64, h/2, w/2]`` where ``mask [B, 1, h, w]`` is 1.

    Small boxes have weight 1 and others 0.25, each times the teacher's objectness.
    """
    c3_p3 = network.compute_c3_p3(student_map, batch["enlarged_dark3"])
    losses = {
        "reduce_conv1": relative_l1(student_map.float(), batch["enlarged_reduce_conv1"], mask[..., ::2, ::2]),
        "c3_p3": relative_l1(c3_p3.float(), batch["enlarged_c3_p3"], mask),
    }
    return losses | _output_losses(network.compute_output(c3_p3).float(), batch[target_name], mask)


def _output_losses(output: Tensor, target: Tensor, mask: Tensor) -> dict[str, Tensor]:
    """Losses of the head's ``output [B, 85, h, w]``, divided by the sum of the teacher's objectness."""
    objectness = mask * target[:, 4:5].sigmoid()
    total = objectness.sum().clamp(min=1)
    sizes = teacher_sizes(target.permute(0, 2, 3, 1))[:, None]
    weights = (objectness * torch.where(sizes < SMALL_SIZE, 1.0, 0.25))[:, 0]
    selected = weights > MIN_WEIGHT
    weights = weights[selected]
    rows, target_rows = (values.permute(0, 2, 3, 1)[selected] for values in (output, target))
    boxes, target_boxes = (
        decode_boxes(values[:, :4], 1.0).permute(0, 2, 3, 1)[selected] for values in (output, target)
    )
    box_losses = generalized_box_iou_loss(boxes, target_boxes, reduction="none")
    return {
        "objectness": (mask * bernoulli_divergence(output[:, 4:5], target[:, 4:5])).sum() / total,
        "class": (weights[:, None] * bernoulli_divergence(rows[:, 5:], target_rows[:, 5:])).sum() / total,
        "box": (weights * box_losses).sum() / total,
    }


def bernoulli_divergence(logits: Tensor, target_logits: Tensor) -> Tensor:
    """Kullback-Leibler divergence from ``target_logits`` to ``logits`` (binary cross-entropy minus its minimum), elementwise."""
    probabilities = target_logits.sigmoid()
    cross_entropy = F.binary_cross_entropy_with_logits(logits, probabilities, reduction="none")
    return cross_entropy - F.binary_cross_entropy_with_logits(target_logits, probabilities, reduction="none")


def relative_l1(values: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """L1 distance divided by the L1 norm of ``target``, where ``mask`` (broadcast) is 1."""
    return (mask * (values - target).abs()).sum() / (mask * target.abs()).sum().clamp(min=1)


def total_loss(losses: dict[str, Tensor], settings: DistillationSettings) -> Tensor:
    """Weighted sum of `distillation_losses`."""
    outputs = losses["objectness"] + losses["class"] + settings.box_weight * losses["box"]
    return settings.map_weight * (losses["reduce_conv1"] + losses["c3_p3"]) + settings.output_weight * outputs
