"""Losses in evaluation mode, and the modes afterwards."""

import copy

import pytest
import torch
import torchvision
from torchvision.models.detection import (
    fasterrcnn_mobilenet_v3_large_320_fpn,
    retinanet_resnet50_fpn,
)

from featlift import detectors
from featlift.backbones import Backbone
from featlift.detectors.eval_mode import eval_mode, eval_mode_losses
from featlift.interpolators import build_interpolators
from featlift.resolution import frozen_copy

TARGET = {"boxes": torch.tensor([[4.0, 4.0, 40.0, 36.0]]), "labels": torch.tensor([1])}


def featlift_detector(name="faster-rcnn"):
    torch.manual_seed(0)
    backbone = Backbone("test_resnet", detectors.backbone_levels(name), "batch", False, None, 0)
    interpolators = build_interpolators("nearest", 16, len(detectors.backbone_levels(name)) - 1)
    options = {"fc_dim": 32, "num_proposals": 50} if name == "faster-rcnn" else {}
    return detectors.detector(name, detectors.extractor(name, backbone, interpolators, 16), 3, **options)


def torchvision_detector():
    torch.manual_seed(0)
    return fasterrcnn_mobilenet_v3_large_320_fpn(weights=None, weights_backbone=None, num_classes=4)


@pytest.mark.parametrize(
    "make",
    [featlift_detector, lambda: featlift_detector("retinanet"), torchvision_detector],
    ids=["faster-rcnn", "retinanet", "torchvision"],
)
def test_losses_move_nothing_but_reach_the_image(make):
    detector = frozen_copy(make())
    before = copy.deepcopy(detector.state_dict())
    images = torch.rand(1, 3, 64, 64, requires_grad=True)
    losses = eval_mode_losses(detector, images, [TARGET])
    torch.stack(list(losses.values())).sum().backward()
    assert images.grad is not None
    assert images.grad.abs().sum() > 0
    assert all(p.grad is None for p in detector.parameters())
    assert all(value.equal(before[name]) for name, value in detector.state_dict().items())
    assert not any(part.training for part in detector.modules())


def test_targets_stay_as_they_are():
    target = {name: value.clone() for name, value in TARGET.items()}
    eval_mode_losses(torchvision_detector(), torch.rand(1, 3, 64, 64), [target])
    assert target["boxes"].equal(TARGET["boxes"])


def test_normalization_is_that_of_evaluation():
    """An image alone and the same image in a batch with another: batch statistics would differ."""
    detector = retinanet_resnet50_fpn(weights=None, weights_backbone=None, num_classes=3, trainable_backbone_layers=5)
    detector.backbone.body = torchvision.models._utils.IntermediateLayerGetter(
        torchvision.models.resnet18(weights=None), {"layer2": "0", "layer3": "1", "layer4": "2"}
    )
    detector.backbone.fpn = torchvision.ops.FeaturePyramidNetwork(
        [128, 256, 512], 256, detector.backbone.fpn.extra_blocks.__class__(512, 256)
    )
    detector.transform.min_size, detector.transform.max_size = (64,), 64
    images = torch.rand(1, 3, 64, 64)
    alone = eval_mode_losses(detector, images, [TARGET])
    twice = eval_mode_losses(detector, torch.cat([images, images]), [TARGET, TARGET])
    for name in alone:
        torch.testing.assert_close(twice[name], alone[name], rtol=1e-4, atol=1e-5)


def test_evaluating_gives_back_each_mode():
    detector = featlift_detector().train()
    detector.backbone.eval()
    with eval_mode(detector):
        assert not any(part.training for part in detector.modules())
    assert detector.training
    assert not detector.backbone.training
