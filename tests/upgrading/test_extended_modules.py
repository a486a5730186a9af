"""RoIs that are pooled from p2x."""

import copy

import pytest
import torch
from torchvision.models import detection
from torchvision.ops import roi_align

from featlift.upgrading import (
    added_parameters,
    enable_level,
    upgrade,
)
from featlift.upgrading.extended_modules import ExtendableFeatures

NARROW = {"hidden_channels": 4}


def detector(name="fasterrcnn_resnet50_fpn"):
    torch.manual_seed(0)
    small = {
        "min_size": 96,
        "max_size": 160,
        "rpn_post_nms_top_n_test": 40,
        "rpn_pre_nms_top_n_test": 40,
        "box_score_thresh": 0.0,
    }
    model = getattr(detection, name)(weights=None, weights_backbone=None, num_classes=4, **small).eval()
    with torch.no_grad():
        model.roi_heads.box_predictor.cls_score.weight.normal_(std=0.5)
    return model


def detect(model):
    with torch.no_grad():
        return model([torch.rand(3, 96, 128, generator=torch.Generator().manual_seed(0))])[0]


@pytest.fixture(scope="module")
def base():
    return detector()


def test_small_rois_are_read_from_p2x_and_the_others_as_before(base):
    model = copy.deepcopy(base)
    upgrade(model, level="p2x", **NARROW)
    images = torch.rand(1, 3, 96, 128)
    boxes = [torch.tensor([[3.0, 4, 20, 30], [0, 0, 90, 80], [40, 40, 95.9, 95.9], [40, 40, 96, 96]])]
    with torch.no_grad():
        features = model.backbone(images)
        pool, sizes = model.roi_heads.box_roi_pool, [(96, 128)]
        before = pool(features, boxes, sizes)
        enable_level(model, 56)
        after = pool(features, boxes, sizes)
        p2x = model.backbone.extended_levels(features.extension_inputs)["p2x"]
    assert p2x.shape == (1, 256, 48, 64)
    assert [torch.equal(a, b) for a, b in zip(before, after, strict=True)] == [False, True, False, True]
    torch.testing.assert_close(after[[0, 2]], roi_align(p2x, [boxes[0][[0, 2]]], 7, 0.5, 2))


def test_the_rpn_sees_the_levels_it_saw(base):
    model, sizes = copy.deepcopy(base), []
    upgrade(model, level="p2x", **NARROW)
    enable_level(model)
    model.rpn.head.register_forward_pre_hook(lambda _, inputs: sizes.append([tuple(x.shape[-2:]) for x in inputs[0]]))
    detect(model)
    assert sizes == [[(24, 32), (12, 16), (6, 8), (3, 4), (2, 2)]]


def test_tiles_equal_the_whole_map(base):
    whole, tiled = copy.deepcopy(base), copy.deepcopy(base)
    torch.manual_seed(1)
    upgrade(whole, "nearest", level="p2x")
    torch.manual_seed(1)
    upgrade(tiled, "nearest", level="p2x", tile_size=2)
    for model in (whole, tiled):
        enable_level(model, 20)
    images = torch.rand(1, 3, 256, 384)
    boxes = [torch.tensor([[3.0, 4, 20, 12], [300, 200, 310, 212]])]
    with torch.no_grad():
        read = [m.roi_heads.box_roi_pool(m.backbone(images), boxes, [(256, 384)]) for m in (whole, tiled)]
    torch.testing.assert_close(*read, rtol=1e-4, atol=1e-4)


def test_a_copy_reads_its_own_level(base):
    model = copy.deepcopy(base)
    upgrade(model, level="p2x", **NARROW)
    enable_level(model, 1000)
    other = copy.deepcopy(model)
    with torch.no_grad():
        for p in added_parameters(other).values():
            p.mul_(3)
    assert not torch.equal(detect(other)["boxes"], detect(model)["boxes"])
    assert isinstance(other.backbone(torch.rand(1, 3, 64, 64)), ExtendableFeatures)
