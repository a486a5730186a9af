"""Upsampling steps of a detector, counted by hand for an image of 64x96 pixels."""

import pytest
import torch
from torch import nn
from torchvision.models.detection import fasterrcnn_mobilenet_v3_large_fpn

from featlift.deployment.upsampling_steps import backbone_and_pyramid, find_upsampling_steps
from featlift.detectors.config import DetectorConfig, build_detector
from featlift.upgrading import upgrade

IMAGE = torch.rand(3, 64, 96)
STEPS = [("p5→p4", (2, 3), (4, 6)), ("p4→p3", (4, 6), (8, 12)), ("p3→p2", (8, 12), (16, 24))]


def featlift_detector(interpolator: str, pyramid: str = "fpn") -> nn.Module:
    model = DetectorConfig(
        "faster-rcnn", "resnet10t", "random", "batch", 0, pyramid_channels=8, pyramid=pyramid, interpolator=interpolator,
        detector_options={"anchor_scale": 4.0, "fc_dim": 16, "num_proposals": 20},
    )  # fmt: skip
    return build_detector(model, 2).eval()


def step_sizes(detector: nn.Module) -> list[tuple[str, tuple[int, int], tuple[int, int]]]:
    return [(step.name, step.in_size, step.out_size) for step in find_upsampling_steps(detector, IMAGE)]


@pytest.mark.parametrize("pyramid", ["fpn", "pafpn"])
@pytest.mark.parametrize("interpolator", ["nearest", "afi", "deconv"])
def test_featlift_detectors(interpolator, pyramid):
    detector = featlift_detector(interpolator, pyramid)
    steps = find_upsampling_steps(detector, IMAGE)
    assert step_sizes(detector) == STEPS
    assert len({step.module for step in steps}) == (3 if interpolator == "deconv" else 1)


def test_a_bifpn_upsamples_in_every_layer():
    """Its padded input is 128x128, so p7 has one cell; each of three layers has four steps."""
    names = [name for name, *_ in step_sizes(featlift_detector("nearest", "bifpn"))]
    assert names == ["p7→p6", "p6→p5", "p5→p4", "p4→p3"] * 3


@pytest.mark.parametrize("name", ["fasterrcnn_resnet50_fpn", "retinanet_resnet50_fpn"])
def test_torchvisions_before_and_after_an_upgrade(torchvision_detector, name):
    detector = torchvision_detector(name)
    expected = STEPS if "rcnn" in name else STEPS[:2]
    steps = find_upsampling_steps(detector, IMAGE)
    assert step_sizes(detector) == expected
    assert all(step.module is None for step in steps)
    upgrade(detector, "light")
    upgraded = find_upsampling_steps(detector, IMAGE)
    assert step_sizes(detector) == expected
    assert all(step.module is upgraded[0].module is not None for step in upgraded)
    for before, after in zip(steps, upgraded, strict=True):
        x = before.random_input()
        y = x.repeat_interleave(2, 2).repeat_interleave(2, 3)
        assert torch.equal(before.upsample(x, before.random_guide()), y)
        assert torch.equal(after.upsample(x, after.random_guide()), y)


def test_backbone_and_pyramid(torchvision_detector):
    detector, other = featlift_detector("nearest"), torchvision_detector("fasterrcnn_resnet50_fpn")
    assert backbone_and_pyramid(detector) == (detector.backbone.backbone, detector.backbone.pyramid)
    assert backbone_and_pyramid(other) == (other.backbone.body, other.backbone.fpn)


def test_without_a_pyramid():
    detector = nn.Module()
    detector.backbone = nn.Conv2d(3, 3, 1)
    with pytest.raises(ValueError, match=r"has no known pyramid .its backbone is a Conv2d"):
        find_upsampling_steps(detector, IMAGE)


def test_a_pyramid_without_upsampling():
    detector = fasterrcnn_mobilenet_v3_large_fpn(weights=None, weights_backbone=None, min_size=64, max_size=96).eval()
    with pytest.raises(ValueError, match="upsamples no map"):
        find_upsampling_steps(detector, IMAGE)
