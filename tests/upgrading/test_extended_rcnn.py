"""Extended level in torchvision's detectors: no change until it is enabled, then only for small RoIs; downgrade restores the detector."""

import copy

import pytest
import torch
from torch import nn
from torchvision.models import detection

from featlift.upgrading import (
    added_parameters,
    downgrade,
    enable_level,
    level_distillation_loss,
    load_delta,
    save_delta,
    upgrade,
)
from featlift.upgrading.extended_level import get_small_roi_size
from featlift.upgrading.extended_rcnn import level_teacher_maps

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


@pytest.mark.parametrize("name", ["fasterrcnn_resnet50_fpn", "fasterrcnn_resnet50_fpn_v2", "maskrcnn_resnet50_fpn"])
def test_nothing_changes_until_it_is_read_and_nothing_is_left_behind(name):
    model = detector(name)
    before, names, kinds = detect(model), list(model.state_dict()), [type(m) for m in model.modules()]
    report = upgrade(model, level="p2x", **NARROW)
    for key, value in detect(model).items():
        assert torch.equal(value, before[key]), key
    assert len(before["boxes"])
    assert set(names) < set(model.state_dict())
    assert report.parameters == sum(p.numel() for p in added_parameters(model).values())
    assert all(path.startswith("backbone.added.") for path in added_parameters(model))
    enable_level(model, 1000)
    assert not torch.equal(detect(model)["boxes"], before["boxes"])
    downgrade(model)
    assert list(model.state_dict()) == names
    assert [type(m) for m in model.modules()] == kinds
    assert all(torch.equal(value, before[key]) for key, value in detect(model).items())


# ---------------------------------------------------------------------------------------------------- distillation


def test_the_teacher_is_the_detector_at_twice_the_size(base):
    model = copy.deepcopy(base)
    upgrade(model, level="p2x", **NARROW)
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        teacher_maps = level_teacher_maps(model.backbone(image))
        original = base.backbone(image)
        smoothed = model.backbone.fpn.layer_blocks[1](teacher_maps["p3x"])
    assert torch.equal(teacher_maps["p2x"], original["0"])
    torch.testing.assert_close(smoothed, original["1"])


def test_only_the_level_learns_and_it_does(base):
    model = copy.deepcopy(base)
    upgrade(model, level="p2x", hidden_channels=8)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    batch = torch.rand(2, 3, 128, 64, generator=torch.Generator().manual_seed(3))
    optimizer = torch.optim.Adam(added_parameters(model).values(), lr=3e-3)
    losses = []
    for _ in range(12):
        optimizer.zero_grad()
        loss = level_distillation_loss(model, batch)["global"]
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.8 * losses[0]
    assert all(p.grad is None for name, p in model.named_parameters() if name not in added_parameters(model))
    moved = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert moved == set(added_parameters(model))


def test_distillation_says_what_it_needs(base):
    model = copy.deepcopy(base)
    with pytest.raises(ValueError, match="add it with"):
        level_distillation_loss(model, torch.rand(1, 3, 64, 64))
    upgrade(model, level="p2x", **NARROW)
    with pytest.raises(ValueError, match="multiples of 64"):
        level_distillation_loss(model, torch.rand(1, 3, 96, 64))
    with pytest.raises(ValueError, match=r"model\.eval"):
        level_distillation_loss(model.train(), torch.rand(1, 3, 64, 64))


# ---------------------------------------------------------------------------------------------------- keeping it


def test_a_delta_brings_the_level_and_its_limit(base, tmp_path):
    model = copy.deepcopy(base)
    upgrade(model, level="p2x", **NARROW)
    enable_level(model, 40)
    with torch.no_grad():
        for p in added_parameters(model).values():
            p.add_(0.01)
    save_delta(model, tmp_path / "level.safetensors")
    again = copy.deepcopy(base)
    load_delta(again, tmp_path / "level.safetensors")
    assert get_small_roi_size(again) == 40
    assert all(torch.equal(value, detect(model)[key]) for key, value in detect(again).items())


# ---------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    "make",
    [
        lambda: detection.retinanet_resnet50_fpn(weights=None, weights_backbone=None),
        lambda: detection.fasterrcnn_mobilenet_v3_large_320_fpn(weights=None, weights_backbone=None),
        lambda: nn.Linear(2, 2),
    ],
)
def test_what_cannot_have_one_is_rejected(make):
    model = make()
    names = list(model.state_dict())
    with pytest.raises(
        ValueError, match=r"does not support an extended level of this kind, p2x.*maskrcnn_resnet50_fpn"
    ):
        upgrade(model, level="p2x")
    assert list(model.state_dict()) == names


def test_invalid_options_leave_the_model_alone(base):
    model = copy.deepcopy(base)
    for options, match in [
        ({"level": "p1"}, "choose one of"),
        ({"level": "p2x", "name": "fft"}, "Did you mean 'ftt'"),
    ]:
        with pytest.raises(ValueError, match=match):
            upgrade(model, **options)
        assert type(model.backbone) is type(base.backbone)
    upgrade(model, level="p2x", **NARROW)
    with pytest.raises(ValueError, match="already upgraded"):
        upgrade(model, level="p2x")
    with pytest.raises(ValueError, match="max_size is -1"):
        enable_level(model, -1)
