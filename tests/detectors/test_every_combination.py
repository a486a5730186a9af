"""Properties of all combinations: every pyramid × detector, and every pyramid × interpolator, builds, trains and detects. Tiny networks."""

import copy
from functools import cache

import pytest
import torch

from featlift.backbones import Backbone
from featlift.detectors import (
    DETECTORS,
    backbone_levels,
    detections_from_features,
    detector,
    extractor,
    losses_from_features,
    num_upsampling_steps,
)
from featlift.interpolators import GUIDED_INTERPOLATORS, INTERPOLATORS, build_interpolators, interpolator
from featlift.pyramids import PYRAMIDS

CHANNELS, CLASSES = 16, 3
SMALL = {"afi": {"num_blocks": 1, "growth_rate": 2}, "srf": {"num_blocks": 1}, "afi-rb": {"num_blocks": 1}}
NARROW = {"fc_dim": 16}
OPTIONS = {"retinanet": {}, "fcos": {}, "centermask": NARROW} | {
    name: NARROW | {"num_proposals": 20} for name in ("faster-rcnn", "mask-rcnn", "cascade-rcnn", "cascade-mask-rcnn")
}


@cache
def build_backbone(levels):
    torch.manual_seed(0)
    return Backbone("test_resnet", levels=levels, frozen_stages=2)


def build(name, pyramid, interpolators):
    backbone = copy.deepcopy(build_backbone(backbone_levels(name, pyramid)))
    torch.manual_seed(0)  # whether the backbone was there or not
    return detector(name, extractor(name, backbone, interpolators, CHANNELS, pyramid), CLASSES, **OPTIONS[name])


def scene(size, boxes):
    masks = torch.zeros(len(boxes), *size, dtype=torch.uint8)
    for mask, (left, top, right, bottom) in zip(masks, boxes, strict=True):
        mask[top:bottom, left:right] = 1
    corners = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    return torch.rand(3, *size), {"boxes": corners, "labels": torch.arange(1, len(boxes) + 1), "masks": masks}


def one_step(network, scenes):
    """Losses of one SGD step, and the names of the changed tensors."""
    images, targets = zip(*scenes, strict=True)
    before = copy.deepcopy(network.state_dict())
    trained = [p for p in network.parameters() if p.requires_grad]
    losses = network.train()(list(images), list(targets))
    sum(losses.values()).backward()
    torch.optim.SGD(trained, lr=0.1).step()
    after = network.state_dict()
    return losses, {name for name in before if not torch.equal(before[name], after[name])}


def check(network):
    full = scene((64, 64), [(4, 4, 30, 20), (20, 20, 60, 60), (40, 2, 56, 30)])
    losses, moved = one_step(network, [full, scene((50, 64), [])])
    assert all(loss.isfinite() for loss in losses.values())
    parameters = dict(network.named_parameters())
    still = {name for name, p in parameters.items() if not p.requires_grad}
    assert still
    assert not still & moved
    parts = {".".join(name.split(".")[:3]) for name in parameters if name not in still}
    idle = {part for part in parts if not any(name.startswith(part) for name in moved)}
    assert not idle
    network.eval()
    with torch.inference_mode():
        results = network([torch.rand(3, 45, 70), torch.zeros(3, 33, 33)])
    for detections, (height, width) in zip(results, [(45, 70), (33, 33)], strict=True):
        boxes = detections["boxes"]
        assert set(detections["labels"].tolist()) <= set(range(1, CLASSES + 1))
        assert (boxes >= 0).all()
        assert (boxes <= torch.tensor([width, height, width, height])).all()
        if "masks" in detections:
            assert detections["masks"].shape == (len(boxes), 1, height, width)


@pytest.mark.parametrize("pyramid", PYRAMIDS)
@pytest.mark.parametrize("name", DETECTORS)
def test_every_detector_on_every_pyramid(name, pyramid):
    check(build(name, pyramid, [interpolator("afi", CHANNELS, **SMALL["afi"])]))


@pytest.mark.parametrize(
    ("interpolator_name", "pyramid"),
    [
        (interpolator_name, pyramid)
        for interpolator_name in INTERPOLATORS
        for pyramid in PYRAMIDS
        if pyramid != "fpn-no-lateral" or interpolator_name not in GUIDED_INTERPOLATORS
    ],
)
def test_every_interpolator_in_every_pyramid(interpolator_name, pyramid):
    steps = num_upsampling_steps("retinanet", pyramid)
    check(
        build(
            "retinanet",
            pyramid,
            build_interpolators(interpolator_name, CHANNELS, steps, **SMALL.get(interpolator_name, {})),
        )
    )


@pytest.mark.parametrize("name", DETECTORS)
def test_images_without_objects(name):
    """Two images without objects: finite losses with a gradient, nothing else."""
    network = build(name, "fpn", [interpolator("nearest", CHANNELS)]).train()
    images, targets = zip(scene((64, 64), []), scene((40, 60), []), strict=True)
    losses = network(list(images), list(targets))
    assert all(loss.isfinite() for loss in losses.values())
    sum(losses.values()).backward()


@pytest.mark.parametrize("name", DETECTORS)
def test_driven_from_features(name):
    """Features first, then losses or detections on them: the same as in a call of the detector."""
    network = build(name, "fpn", [interpolator("nearest", CHANNELS)])
    image, target = scene((64, 64), [(4, 4, 30, 20), (20, 20, 60, 60)])
    network.train()
    torch.manual_seed(1)
    whole = network([image], [target])
    torch.manual_seed(1)
    images, targets = network.transform([image], [target])
    parts = losses_from_features(network, images, network.backbone(images.tensors), targets)
    assert {key: loss.item() for key, loss in parts.items()} == {key: loss.item() for key, loss in whole.items()}
    network.eval()
    with torch.inference_mode():
        (expected,) = network([image])
        images, _ = network.transform([image])
        detections = detections_from_features(network, images, network.backbone(images.tensors))
    (detections,) = network.transform.postprocess(detections, images.image_sizes, [(64, 64)])
    assert set(detections) == set(expected)
    for key, value in expected.items():
        torch.testing.assert_close(detections[key], value)


def test_the_wrong_backbone_is_refused():
    with pytest.raises(ValueError, match=r"'faster-rcnn' reads c3, c4, c5, .* \(pyramid 'bifpn'\)"):
        extractor("faster-rcnn", Backbone("test_resnet"), [interpolator("nearest", 16)], 16, "bifpn")
