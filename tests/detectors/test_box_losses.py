"""Box losses against literal loops."""

import math

import pytest
import torch
from tests.detectors.test_aligned import built
from torchvision.ops import generalized_box_iou_loss

from featlift.detectors.box_losses import CenternessWeightedHead, SmoothL1RegressionHead, centerness


def test_smooth_l1_is_a_literal_loop():
    torch.manual_seed(0)
    head = SmoothL1RegressionHead(4, 1, beta=0.5)
    anchors = torch.tensor([[0.0, 0.0, 10.0, 10.0], [5.0, 5.0, 25.0, 20.0], [1.0, 1.0, 4.0, 4.0]])
    boxes, offsets = torch.tensor([[1.0, 2.0, 12.0, 11.0], [4.0, 4.0, 30.0, 22.0]]), torch.randn(1, 3, 4)
    matches = torch.tensor([0, 1, -1])
    total = 0.0
    for row, match in ((0, 0), (1, 1)):
        (ax, ay, bx, by), (gx, gy, hx, hy) = anchors[row].tolist(), boxes[match].tolist()
        w, h = bx - ax, by - ay
        wanted = [
            ((gx + hx) / 2 - (ax + bx) / 2) / w,
            ((gy + hy) / 2 - (ay + by) / 2) / h,
            math.log((hx - gx) / w),
            math.log((hy - gy) / h),
        ]
        for value, truth in zip(offsets[0, row].tolist(), wanted, strict=True):
            x = abs(value - truth)
            total += x * x / (2 * 0.5) if x < 0.5 else x - 0.25
    loss = head.compute_loss([{"boxes": boxes}], {"bbox_regression": offsets}, [anchors], [matches])
    assert loss.item() == pytest.approx(total / 2, rel=1e-5)


def test_centerness_by_hand():
    assert centerness(torch.tensor([[1.0, 2.0, 3.0, 2.0], [2.0, 2.0, 2.0, 2.0]])).tolist() == pytest.approx(
        [(1 / 3) ** 0.5, 1.0]
    )


def test_the_giou_of_every_cell_is_weighted_by_its_centerness():
    torch.manual_seed(0)
    detector = built("fcos", centerness_weighting=True).train()
    assert isinstance(detector.head, CenternessWeightedHead)
    seen = {}
    original = CenternessWeightedHead.compute_loss
    detector.head.compute_loss = lambda *args: seen.setdefault("args", args) and original(detector.head, *args)
    target = {"boxes": torch.tensor([[8.0, 4.0, 50.0, 44.0]]), "labels": torch.tensor([1])}
    losses = detector([torch.rand(3, 64, 64)], [target])
    _, outputs, anchors, matches = seen["args"]
    total = weights = 0.0
    for row in torch.where(matches[0] >= 0)[0].tolist():
        x, y, stride = (
            *((anchors[0][row, :2] + anchors[0][row, 2:]) / 2).tolist(),
            (anchors[0][row, 2] - anchors[0][row, 0]).item(),
        )
        left, top, right, bottom = (stride * d for d in outputs["bbox_regression"][0, row].tolist())
        box = torch.tensor([[x - left, y - top, x + right, y + bottom]])
        sides = (x - 8, 50 - x), (y - 4, 44 - y)
        weight = math.sqrt(math.prod(min(pair) / max(pair) for pair in sides))
        total += weight * generalized_box_iou_loss(box, target["boxes"]).item()
        weights += weight
    assert losses["bbox_regression"].item() == pytest.approx(total / weights, rel=1e-4)
