"""Every detector: odd sizes, no objects, one object per class, batches, and the properties of each registry entry."""

import copy
import math

import pytest
import torch
from torch import Tensor, nn
from torchvision.models.detection.roi_heads import RoIHeads

from featlift.backbones import Backbone
from featlift.detectors import DETECTORS, backbone_levels, detector, extractor
from featlift.interpolators import build_interpolators, interpolator

CLASSES = 3
CHANNELS = 64  # FCOS takes multiples of 32, and more than one channel a group where a map is a single cell
SLIM = {"faster-rcnn": {"fc_dim": 16, "num_proposals": 50}, "mask-rcnn": {"fc_dim": 16, "num_proposals": 50}}


def build(name: str, interpolator_name: str = "nearest", **options: object) -> nn.Module:
    backbone = Backbone("mobilenetv3_small_050", levels=backbone_levels(name))
    steps = len(backbone_levels(name)) - 1
    network = extractor(name, backbone, build_interpolators(interpolator_name, CHANNELS, steps), CHANNELS)
    return detector(name, network, CLASSES, **SLIM.get(name, {}), **options)


def keep_all_detections(network: nn.Module) -> nn.Module:
    """A detector in evaluation mode that keeps its least certain detections."""
    for module in network.modules():
        if isinstance(module, RoIHeads) or hasattr(module, "score_thresh"):
            module.score_thresh = 0.0
    return network.eval()


def target(boxes: list[list[float]], size: tuple[int, int]) -> dict[str, Tensor]:
    masks = torch.zeros(len(boxes), *size, dtype=torch.uint8)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes, strict=True):
        mask[int(y1) : math.ceil(y2), int(x1) : math.ceil(x2)] = 1
    labels = torch.arange(len(boxes)) % CLASSES + 1
    return {"boxes": torch.tensor(boxes).reshape(-1, 4), "labels": labels, "masks": masks}


@pytest.fixture(scope="module", params=DETECTORS)
def network(request) -> nn.Module:
    torch.manual_seed(0)
    return build(request.param, "afi")


IMAGES = [torch.rand(3, 65, 97), torch.rand(3, 50, 33)]
FEW_AND_NONE = [
    target([[5.0, 5.0, 40.5, 37.0], [60.0, 10.0, 90.0, 64.0], [1.0, 40.0, 9.0, 63.0]], (65, 97)),
    target([], (50, 33)),
]
NONE = [target([], (65, 97)), target([], (50, 33))]


@pytest.mark.parametrize("targets", [FEW_AND_NONE, NONE], ids=["one per class", "no objects"])
def test_losses_and_gradients_at_odd_sizes(network, targets):
    network.train().zero_grad()
    losses = network(IMAGES, targets)
    assert all(loss.ndim == 0 and loss.isfinite() for loss in losses.values())
    sum(losses.values()).backward()
    moved = [parameter.grad is not None and bool(parameter.grad.any()) for parameter in network.backbone.parameters()]
    assert any(moved)
    gradients = [p.grad for p in network.parameters() if p.grad is not None]
    assert all(gradient.isfinite().all() for gradient in gradients)
    if targets is FEW_AND_NONE:
        parameters = network.backbone.pyramid.interpolators.parameters()
        assert all(parameter.grad.any() for parameter in parameters)


@torch.no_grad()
def test_detections_at_odd_sizes(network):
    results = keep_all_detections(network)(IMAGES)
    for image, detections in zip(IMAGES, results, strict=True):
        height, width = image.shape[-2:]
        assert len(detections["boxes"]) == len(detections["labels"]) == len(detections["scores"]) > 0
        assert (detections["boxes"] >= 0).all()
        assert (detections["boxes"] <= torch.tensor([width, height] * 2) + 1e-3).all()
        assert detections["labels"].min() >= 1
        assert detections["labels"].max() <= CLASSES
        if "masks" in detections:
            assert detections["masks"].shape == (len(detections["boxes"]), 1, height, width)


@torch.no_grad()
def test_a_batch_equals_its_members_one_by_one(network):
    precise = keep_all_detections(
        copy.deepcopy(network)
    ).double()  # fresh scores are nearly equal: rounding would reorder them
    images = list(torch.rand(2, 3, 65, 97, dtype=torch.float64))
    for image, detections in zip(images, precise(images), strict=True):
        alone = precise([image])[0]
        for key in detections:
            torch.testing.assert_close(detections[key], alone[key], rtol=1e-6, atol=1e-6)


@torch.no_grad()
@pytest.mark.parametrize("name", DETECTORS)
def test_detections_are_in_pixels_of_the_input_image(name):
    """An image enlarged inside the detector is detected at the same place as one enlarged by hand."""
    image = torch.rand(3, 32, 48)
    enlarged = nn.functional.interpolate(image[None], scale_factor=2, mode="bilinear")[0]
    torch.manual_seed(1)
    inside = keep_all_detections(build(name, test_size=(64, 1000)))([image])[0]
    torch.manual_seed(1)
    outside = keep_all_detections(build(name))([enlarged])[0]
    torch.testing.assert_close(2 * inside["boxes"], outside["boxes"], rtol=1e-3, atol=1e-2)
    torch.testing.assert_close(inside["scores"], outside["scores"], rtol=1e-3, atol=1e-4)


def test_an_interpolator_that_adds_nothing_changes_nothing():
    torch.manual_seed(1)
    nearest = keep_all_detections(build("faster-rcnn"))
    torch.manual_seed(1)
    learned = keep_all_detections(build("faster-rcnn"))
    learned.backbone.pyramid.interpolators[0] = interpolator("afi", CHANNELS, init="zero", shortcut="nearest")
    for a, b in zip(nearest(IMAGES), learned(IMAGES), strict=True):
        assert all(torch.equal(a[key], b[key]) for key in a)


def test_only_mask_rcnn_has_a_mask_loss():
    assert "loss_mask" in build("mask-rcnn").train()(IMAGES, FEW_AND_NONE)
    assert "loss_mask" not in build("faster-rcnn").train()(IMAGES, FEW_AND_NONE)


def test_what_a_detector_reads():
    assert backbone_levels("mask-rcnn") == ("c2", "c3", "c4", "c5")
    assert backbone_levels("retinanet") == backbone_levels("fcos") == ("c3", "c4", "c5")
    assert build("fcos").backbone.levels == ("p3", "p4", "p5", "p6", "p7")
    assert build("faster-rcnn").backbone.levels == ("p2", "p3", "p4", "p5", "p6")


def test_errors_name_what_is_possible():
    with pytest.raises(ValueError, match=r"'retina-net'. Did you mean 'retinanet'\? Choose one of: faster-rcnn"):
        backbone_levels("retina-net")
    with pytest.raises(ValueError, match=r"'fcos' has no option fc_dim; it has: test_size"):
        build("fcos", fc_dim=3)
    with pytest.raises(ValueError, match=r"num_classes is 0"):
        detector("fcos", build("fcos").backbone, 0)
    with pytest.raises(ValueError, match=r"32 groups, but the pyramid has 72 channels; use 64, 128 or 256"):
        detector(
            "fcos",
            extractor("fcos", build("fcos").backbone.backbone, build_interpolators("nearest", 72, 2), 72),
            CLASSES,
        )
    with pytest.raises(ValueError, match=r"'fcos' reads c3, c4, c5, but the backbone has c2, c3, c4, c5"):
        extractor("fcos", Backbone("resnet10t"), build_interpolators("nearest", CHANNELS, 3))
