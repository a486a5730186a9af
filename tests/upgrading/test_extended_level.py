"""One interface for the levels p2x and p3x: names, limits, deltas, errors."""

import copy

import pytest
import torch
from torch import nn

from featlift.upgrading import added_parameters, enable_level, load_delta, save_delta, upgrade
from featlift.upgrading.extended_level import get_extended_detector, get_small_roi_size

IMAGE = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(1))


def test_the_limit_in_pixels_has_a_default(yolox):
    upgrade(yolox, level="p3x", width=8)
    assert get_small_roi_size(yolox) == 0
    enable_level(yolox)
    assert get_small_roi_size(yolox) == 32
    with pytest.raises(ValueError, match="max_size is -1"):
        enable_level(yolox, -1)


@torch.no_grad()
def test_a_delta_brings_the_level_and_its_limit(yolox, tmp_path):
    base = copy.deepcopy(yolox)
    upgrade(yolox, "bilinear", level="p3x", width=8, num_blocks=1)
    enable_level(yolox, 40)
    for parameter in added_parameters(yolox).values():
        parameter.add_(0.01)
    save_delta(yolox, tmp_path / "level.safetensors")
    load_delta(base, tmp_path / "level.safetensors")
    assert get_small_roi_size(base) == 40
    assert torch.equal(base(IMAGE), yolox(IMAGE))


def test_what_is_wrong_is_said_and_nothing_is_changed(yolox):
    kind = type(yolox)
    for model, options, match in [
        (yolox, {"level": "p1"}, "extended level"),
        (yolox, {"level": "p3x", "name": "nearst"}, "Did you mean 'nearest'"),
        (yolox, {"level": "p3x", "widht": 3}, "widht"),
        (nn.Conv2d(3, 4, 1), {"level": "p3x"}, "Supported are YOLOX"),
    ]:
        with pytest.raises(ValueError, match=match):
            upgrade(model, **options)
    assert type(yolox) is kind
    with pytest.raises(ValueError, match="has no extended level p3x; add it"):
        get_extended_detector(yolox)
    upgrade(yolox, level="p3x", width=8)
    assert get_extended_detector(yolox) is yolox
    with pytest.raises(ValueError, match="already upgraded"):
        upgrade(yolox, level="p3x")
