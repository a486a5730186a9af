"""Losses and detections on features equal the detector's own, for every FeatLift detector and for torchvision's."""

import pytest
import torch
from torch import nn
from torchvision.models.detection import fasterrcnn_mobilenet_v3_large_320_fpn

from featlift.backbones import Backbone
from featlift.detectors import (
    DETECTORS,
    backbone_levels,
    detections_from_features,
    detector,
    extractor,
    losses_from_features,
)
from featlift.interpolators import interpolator

IMAGES = [torch.rand(3, 65, 97), torch.rand(3, 50, 33)]
MASKS = torch.zeros(1, 65, 97, dtype=torch.uint8)
MASKS[0, 5:37, 5:40] = 1
TARGETS = [
    {"boxes": torch.tensor([[5.0, 5.0, 40.0, 37.0]]), "labels": torch.tensor([2]), "masks": MASKS},
    {
        "boxes": torch.zeros(0, 4),
        "labels": torch.zeros(0, dtype=torch.int64),
        "masks": torch.zeros(0, 50, 33, dtype=torch.uint8),
    },
]


def featlift_detector(name: str) -> nn.Module:
    backbone = Backbone("mobilenetv3_small_050", levels=backbone_levels(name))
    network = extractor(name, backbone, [interpolator("nearest", 64)], channels=64)
    slim = {"fc_dim": 16, "num_proposals": 50} if "rcnn" in name else {}
    return detector(name, network, 3, **slim)


def torchvision_detector() -> nn.Module:
    return fasterrcnn_mobilenet_v3_large_320_fpn(
        weights=None, weights_backbone=None, num_classes=4, min_size=64, max_size=96, rpn_post_nms_top_n_train=50
    )


@pytest.fixture(scope="module", params=[*DETECTORS, "torchvision"])
def network(request) -> nn.Module:
    torch.manual_seed(0)
    return torchvision_detector() if request.param == "torchvision" else featlift_detector(request.param)


def test_losses_are_the_detectors_own(network):
    network.train()
    torch.manual_seed(1)  # proposals are sampled
    expected = network(IMAGES, TARGETS)
    torch.manual_seed(1)
    images, targets = network.transform(IMAGES, TARGETS)
    losses = losses_from_features(network, images, network.backbone(images.tensors), targets)
    assert losses.keys() == expected.keys()
    for name, loss in losses.items():
        torch.testing.assert_close(loss, expected[name])
    assert sum(losses.values()) > 0


def test_losses_have_a_graph_to_the_features(network):
    network.train()
    images, targets = network.transform(IMAGES, TARGETS)
    features = {level: x.detach().requires_grad_() for level, x in network.backbone(images.tensors).items()}
    sum(losses_from_features(network, images, features, targets).values()).backward()
    assert all(x.grad is not None and x.grad.any() for x in features.values())


@torch.no_grad()
def test_detections_are_the_detectors_own(network):
    network.eval()
    part = network.roi_heads if hasattr(network, "roi_heads") else network
    part.score_thresh = 0.0
    images, _ = network.transform(IMAGES)
    detections = detections_from_features(network, images, network.backbone(images.tensors))
    sizes = [tuple(image.shape[-2:]) for image in IMAGES]
    back = network.transform.postprocess(detections, images.image_sizes, sizes)
    for actual, expected in zip(back, network(IMAGES), strict=True):
        assert actual.keys() == expected.keys()
        assert len(actual["boxes"]) > 0
        for key, value in expected.items():
            torch.testing.assert_close(actual[key], value)


def test_the_wrong_mode_is_reported():
    network = featlift_detector("fcos")
    images, targets = network.transform(IMAGES, TARGETS)
    with pytest.raises(ValueError, match=r"call detector.train\(\) first"):
        losses_from_features(network.eval(), images, {}, targets)
    with pytest.raises(ValueError, match=r"call detector.eval\(\) first"):
        detections_from_features(network.train(), images, {})


def test_other_modules_are_rejected():
    images, targets = featlift_detector("fcos").transform(IMAGES, TARGETS)
    with pytest.raises(
        TypeError, match=r"Linear is not a supported detector.*GeneralizedRCNN family, RetinaNet and FCOS"
    ):
        losses_from_features(nn.Linear(1, 1).train(), images, {}, targets)
