"""Cascade R-CNN: each stage against hand-made numbers, and the interaction of the stages."""

import torch
from torch import nn

from featlift.detectors.cascade_heads import (
    BBOX_REG_WEIGHTS,
    IOU_THRESHOLDS,
    CascadeRoIHeads,
    CascadeStage,
    _scale_gradient,
)
from featlift.detectors.rcnn import PyramidRoIAlign


def stage(number=0, classes=2):
    return CascadeStage(nn.Flatten(), 2 * 7 * 7, classes, IOU_THRESHOLDS[number], BBOX_REG_WEIGHTS[number])


def heads():
    torch.manual_seed(0)
    return CascadeRoIHeads([stage(i) for i in range(3)], PyramidRoIAlign(["p2", "p3"], 7), {})


def test_the_stages_pull_no_harder_than_one():
    x = torch.randn(4, requires_grad=True)
    torch.testing.assert_close(_scale_gradient(x, 3), x)
    sum(_scale_gradient(x, 3).sum() for _ in range(3)).backward()
    torch.testing.assert_close(x.grad, torch.ones(4))
