"""Errors between outputs, by hand."""

import pytest
import torch

from featlift.deployment.export_errors import detection_error, relative_error


def test_relative_error_by_hand():
    expected = {"a": torch.tensor([3.0, 4.0]), "b": torch.tensor([1.0])}
    assert relative_error({"a": torch.tensor([3.0, 4.5]), "b": torch.tensor([1.0])}, expected) == pytest.approx(0.1)
    assert relative_error({"a": torch.tensor([3.0]), "b": torch.tensor([1.0])}, expected) == float("inf")
    assert relative_error({"b": torch.tensor([1.0])}, expected) == float("inf")


def objects(*rows):
    boxes, labels, scores = zip(*rows, strict=True)
    return {"boxes": torch.tensor(boxes), "labels": torch.tensor(labels), "scores": torch.tensor(scores)}


def test_masks_are_compared_with_those_of_their_objects():
    rows = ([0.0, 0, 50, 100], 1, 0.9), ([10.0, 10, 20, 20], 2, 0.8)
    masks = torch.zeros(2, 1, 2, 2)
    masks[0, 0, 0], masks[1, 0, 1] = 1.0, 1.0
    expected = objects(*rows) | {"masks": masks}
    assert detection_error(objects(*rows[::-1]) | {"masks": masks.flip(0)}, expected) == 0
    assert detection_error(objects(*rows[::-1]) | {"masks": masks}, expected) > 1


def test_objects_are_compared_whatever_their_order():
    first, second = ([0.0, 0, 50, 100], 1, 0.9), ([10.0, 10, 20, 20], 2, 0.8)
    expected = objects(first, second)
    assert detection_error(objects(second, first), expected) == 0
    assert detection_error(objects(([0.0, 0, 50, 99], 1, 0.9), second), expected) == pytest.approx(0.01)
    assert detection_error(objects(first, ([10.0, 10, 20, 20], 2, 0.7)), expected) == pytest.approx(0.1, rel=1e-4)
    assert detection_error(objects(first, ([10.0, 10, 20, 20], 1, 0.8)), expected) >= 0.8
    assert detection_error(objects(first), expected) == float("inf")
