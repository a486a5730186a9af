"""Distillation losses: zero for the teacher itself, by hand on one cell, and they fall on a held-out image."""

import math

import pytest
import torch

from featlift.upgrading import added_parameters, level_distillation_loss, upgrade
from featlift.upgrading.extended_family import LevelPredictions
from featlift.upgrading.extended_losses import (
    LevelLossWeights,
    bernoulli_divergence,
    prediction_losses,
    relative_l1,
)


def test_divergence_by_hand():
    p, q = 0.7310585786300049, 0.5
    expected = p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))
    assert bernoulli_divergence(torch.tensor(0.0), torch.tensor(1.0)).item() == pytest.approx(expected, rel=1e-5)
    assert relative_l1(torch.tensor([1.0, 3.0]), torch.tensor([2.0, -2.0])).item() == pytest.approx(6 / 4)


def predictions(shift=0.0, **logits):
    boxes = torch.tensor([[[0.0, 0, 8, 8], [0, 0, 100, 100]]]) + shift
    return LevelPredictions(boxes, torch.tensor([[[2.0, -3], [1, -9]]]) + shift, **logits)


@pytest.mark.parametrize("kind", ["none", "objectness_logits", "centerness_logits"])
def test_the_teacher_itself_has_no_loss_and_others_have(kind):
    logits = {} if kind == "none" else {kind: torch.tensor([[1.0, -1.0]])}
    same = prediction_losses(predictions(**logits), predictions(**logits), LevelLossWeights())
    other = prediction_losses(
        predictions(0.5, **{k: v + 1 for k, v in logits.items()}), predictions(**logits), LevelLossWeights()
    )
    assert all(value.item() == pytest.approx(0, abs=1e-6) for value in same.values())
    assert all(value.item() > 0 for value in other.values())
    assert set(other) == {"classes", "boxes"} | {name.removesuffix("_logits") for name in logits}


def test_boxes_count_by_confidence_and_size():
    teacher, student = predictions(), predictions()
    moved = student.boxes.clone()
    moved[0, :, 2] += 4
    losses = prediction_losses(LevelPredictions(moved, student.class_logits), teacher, LevelLossWeights(boxes=1.0))
    small, large = torch.tensor([2.0, 1.0]).sigmoid().tolist()
    expected = (small * (1 - 64 / 96) + 0.25 * large * (1 - 10_000 / 10_400)) / (small + large)
    assert losses["boxes"].item() == pytest.approx(expected, rel=1e-4)


def test_a_few_steps_lower_the_loss_of_another_image_and_move_the_level_alone(yolox):
    upgrade(yolox, level="p3x", width=16)
    before = {name: value.clone() for name, value in yolox.state_dict().items()}
    generator = torch.Generator().manual_seed(3)
    images, other = torch.rand(4, 3, 64, 64, generator=generator), torch.rand(1, 3, 64, 64, generator=generator)

    def held_out():
        with torch.no_grad():
            return sum(level_distillation_loss(yolox, other).values()).item()

    first = held_out()
    optimizer = torch.optim.AdamW(added_parameters(yolox).values(), lr=1e-2)
    for _ in range(20):
        optimizer.zero_grad()
        sum(level_distillation_loss(yolox, images).values()).backward()
        optimizer.step()
    assert held_out() < 0.95 * first
    moved = {name for name, value in yolox.state_dict().items() if not torch.equal(value, before[name])}
    assert moved == set(added_parameters(yolox))
