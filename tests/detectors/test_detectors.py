"""Every detector: odd sizes, no objects, one object per class, batches, and the laws of the table."""

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
SLIM = {"faster-rcnn": {"width": 16, "proposals": 50}, "mask-rcnn": {"width": 16, "proposals": 50}}


def build(name: str, doubling: str = "nearest", **options: object) -> nn.Module:
    backbone = Backbone("mobilenetv3_small_050", levels=backbone_levels(name))
    steps = len(backbone_levels(name)) - 1
    network = extractor(name, backbone, build_interpolators(doubling, CHANNELS, steps), CHANNELS)
    return detector(name, network, CLASSES, **SLIM.get(name, {}), **options)


def says_everything(network: nn.Module) -> nn.Module:
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


PICTURES = [torch.rand(3, 65, 97), torch.rand(3, 50, 33)]
FEW_AND_NONE = [
    target([[5.0, 5.0, 40.5, 37.0], [60.0, 10.0, 90.0, 64.0], [1.0, 40.0, 9.0, 63.0]], (65, 97)),
    target([], (50, 33)),
]
NONE = [target([], (65, 97)), target([], (50, 33))]


@pytest.mark.parametrize("targets", [FEW_AND_NONE, NONE], ids=["one per class", "no objects"])
def test_losses_and_gradients_at_odd_sizes(network, targets):
    network.train().zero_grad()
    losses = network(PICTURES, targets)
    assert all(loss.ndim == 0 and loss.isfinite() for loss in losses.values())
    sum(losses.values()).backward()
    moved = [parameter.grad is not None and bool(parameter.grad.any()) for parameter in network.backbone.parameters()]
    assert any(moved)
    gradients = [p.grad for p in network.parameters() if p.grad is not None]
    assert all(gradient.isfinite().all() for gradient in gradients)
    if targets is FEW_AND_NONE:
        doubling = network.backbone.pyramid.interpolators.parameters()
        assert all(parameter.grad.any() for parameter in doubling)


@torch.no_grad()
def test_detections_at_odd_sizes(network):
    detections = says_everything(network)(PICTURES)
    for picture, found in zip(PICTURES, detections, strict=True):
        height, width = picture.shape[-2:]
        assert len(found["boxes"]) == len(found["labels"]) == len(found["scores"]) > 0
        assert (found["boxes"] >= 0).all()
        assert (found["boxes"] <= torch.tensor([width, height] * 2) + 1e-3).all()
        assert found["labels"].min() >= 1
        assert found["labels"].max() <= CLASSES
        if "masks" in found:
            assert found["masks"].shape == (len(found["boxes"]), 1, height, width)


@torch.no_grad()
def test_a_batch_equals_its_members_one_by_one(network):
    precise = says_everything(
        copy.deepcopy(network)
    ).double()  # fresh scores are nearly equal: rounding would reorder them
    pictures = list(torch.rand(2, 3, 65, 97, dtype=torch.float64))
    for picture, found in zip(pictures, precise(pictures), strict=True):
        alone = precise([picture])[0]
        for key in found:
            torch.testing.assert_close(found[key], alone[key], rtol=1e-6, atol=1e-6)


@torch.no_grad()
@pytest.mark.parametrize("name", DETECTORS)
def test_detections_come_back_in_the_pixels_of_the_picture(name):
    """A picture enlarged inside the detector is found at the same place as one enlarged by hand."""
    picture = torch.rand(3, 32, 48)
    enlarged = nn.functional.interpolate(picture[None], scale_factor=2, mode="bilinear")[0]
    torch.manual_seed(1)
    inside = says_everything(build(name, test_size=(64, 1000)))([picture])[0]
    torch.manual_seed(1)
    outside = says_everything(build(name))([enlarged])[0]
    torch.testing.assert_close(2 * inside["boxes"], outside["boxes"], rtol=1e-3, atol=1e-2)
    torch.testing.assert_close(inside["scores"], outside["scores"], rtol=1e-3, atol=1e-4)


def test_an_interpolator_that_adds_nothing_changes_nothing():
    torch.manual_seed(1)
    nearest = says_everything(build("faster-rcnn"))
    torch.manual_seed(1)
    learned = says_everything(build("faster-rcnn"))
    learned.backbone.pyramid.interpolators[0] = interpolator("afi", CHANNELS, init="zero", shortcut="nearest")
    for a, b in zip(nearest(PICTURES), learned(PICTURES), strict=True):
        assert all(torch.equal(a[key], b[key]) for key in a)


def test_masks_are_asked_for_by_mask_rcnn_alone():
    assert "loss_mask" in build("mask-rcnn").train()(PICTURES, FEW_AND_NONE)
    assert "loss_mask" not in build("faster-rcnn").train()(PICTURES, FEW_AND_NONE)


def test_what_a_detector_reads():
    assert backbone_levels("mask-rcnn") == ("c2", "c3", "c4", "c5")
    assert backbone_levels("retinanet") == backbone_levels("fcos") == ("c3", "c4", "c5")
    assert build("fcos").backbone.levels == ("p3", "p4", "p5", "p6", "p7")
    assert build("faster-rcnn").backbone.levels == ("p2", "p3", "p4", "p5", "p6")


def test_errors_name_what_is_possible():
    with pytest.raises(ValueError, match=r"'retina-net'. Did you mean 'retinanet'\? There are: faster-rcnn"):
        backbone_levels("retina-net")
    with pytest.raises(ValueError, match=r"'fcos' has no option width; it has: test_size"):
        build("fcos", width=3)
    with pytest.raises(ValueError, match=r"0 classes"):
        detector("fcos", build("fcos").backbone, 0)
    with pytest.raises(ValueError, match=r"32 groups, but the pyramid has 72 channels; give 64, 128 or 256"):
        detector(
            "fcos",
            extractor("fcos", build("fcos").backbone.backbone, build_interpolators("nearest", 72, 2), 72),
            CLASSES,
        )
    with pytest.raises(ValueError, match=r"'fcos' reads c3, c4, c5, but the backbone gives c2, c3, c4, c5"):
        extractor("fcos", Backbone("resnet10t"), build_interpolators("nearest", CHANNELS, 3))
