from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as nnf
from torch import Tensor, nn
from torchvision.ops import FeaturePyramidNetwork

from featlift.upgrading import upgrade


def test_upsamples_that_are_not_twice_are_left(yolo: nn.Module):
    report = upgrade(yolo, "deconv")
    assert report.finder == "nn.Upsample"
    assert [(row.site, row.channels, row.old, row.stride) for row in report.rows] == [
        ("model.3", 16, "nearest", 8),
        ("model.5", 10, "bilinear", 4),
    ]
    assert report.skipped == ("model.7: nn.Upsample, factor is not 2",)
    assert type(yolo.model[7]) is nn.Upsample  # type: ignore[index]


def test_only_the_neck_is_redirected(rtdetr_with_masks: nn.Module):
    with pytest.raises(
        ValueError, match=r"Several modules upsample maps by 2: 'encoder' \(2\), 'masks' \(1\).*neck='encoder'"
    ):
        upgrade(rtdetr_with_masks, "deconv")
    report = upgrade(rtdetr_with_masks, "deconv", neck="encoder")
    assert [row.site for row in report.rows] == ["encoder", "encoder"]
    assert [line.split(":")[0] for line in report.skipped] == ["encoder", "masks"]
    maps = torch.rand(1, 8, 4, 4)
    masks: nn.Module = rtdetr_with_masks.masks  # type: ignore[assignment]
    for parameter in rtdetr_with_masks.parameters():
        parameter.data.add_(0.1)
    assert torch.equal(masks(maps), nnf.interpolate(maps.mean(1, True), scale_factor=2.0, mode="bilinear"))


def test_the_neck_is_found_alone(rtdetr: nn.Module):
    report = upgrade(rtdetr, "deconv")
    assert (report.finder, len(report.failed_finders)) == ("F.interpolate", 3)
    assert {row.site for row in report.rows} == {"encoder"}


def test_no_match_reports_what_was_tried():
    with pytest.raises(ValueError, match=r"no torchvision FeaturePyramidNetwork.*no nn.Upsample.*no F.interpolate"):
        upgrade(nn.Conv2d(3, 4, 3), "deconv")
    quarter = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Upsample(scale_factor=4))
    with pytest.raises(ValueError, match=r"1 nn.Upsample, none with scale_factor=2.*254x254 → 1016x1016"):
        upgrade(quarter, "deconv")


def test_a_pyramid_of_one_stride_is_refused(torchvision_detector: Callable[[str], nn.Module]):
    model = torchvision_detector("fasterrcnn_mobilenet_v3_large_320_fpn")  # reads two maps of stride 32
    with pytest.raises(ValueError, match=r"upsamples no map by 2: backbone.fpn: nearest, 256 channels, 8x8 → 8x8"):
        upgrade(model)


class Dilated(nn.Module):
    """Strides 8, 16 and 16."""

    def __init__(self) -> None:
        super().__init__()
        self.stages = nn.ModuleList([nn.Conv2d(3, 4, 8, 8), nn.Conv2d(4, 4, 2, 2), nn.Conv2d(4, 4, 1)])
        self.fpn = FeaturePyramidNetwork([4, 4, 4], 8)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """``[B, 3, H, W]`` → "0" … "2"."""
        maps = {}
        for number, stage in enumerate(self.stages):
            maps[str(number)] = x = stage(x)
        return self.fpn(maps)


def test_a_step_of_one_size_is_left_alone():
    model, x = Dilated(), torch.rand(1, 3, 64, 64)
    before = model(x)
    report = upgrade(model, "deconv")
    assert [row.level for row in report.rows] == ["p3"]
    assert report.skipped == ("fpn: nearest, 8 channels, 16x16 → 16x16",)
    assert all(torch.equal(before[name], y) for name, y in model(x).items())


class OwnForward(FeaturePyramidNetwork):
    def forward(self, x: dict[str, Tensor]) -> dict[str, Tensor]:
        """As its parent, times two."""
        return {name: 2 * y for name, y in super().forward(x).items()}


def test_a_subclass_keeps_its_forward():
    model, x = Dilated(), torch.rand(1, 3, 64, 64)
    model.stages[2] = nn.Conv2d(4, 4, 2, 2)
    model.fpn = OwnForward([4, 4, 4], 8)
    before = model(x)
    report = upgrade(model, "deconv")
    assert (report.finder, len(report.rows)) == ("F.interpolate", 2)
    assert all(torch.equal(before[name], y) for name, y in model(x).items())
