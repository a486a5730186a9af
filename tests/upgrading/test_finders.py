from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as nnf
from torch import Tensor, nn
from torchvision.ops import FeaturePyramidNetwork

from featlift.upgrading import added_parameters, downgrade, upgrade


def test_upsamples_that_are_not_twice_are_left(yolo: nn.Module):
    report = upgrade(yolo, "deconv")
    assert (report.finder, report.neck) == ("nn.Upsample", "model")
    assert [(row.site, row.channels, row.old, row.stride) for row in report.rows] == [
        ("model.3", 16, "nearest", 8),
        ("model.5", 10, "bilinear", 4),
    ]
    assert report.skipped == ("model.7: nearest, 6 channels, 64x64 → 256x256 (factor is not 2)",)
    assert type(yolo.model[7]) is nn.Upsample  # type: ignore[index]


def test_masks_stay_and_can_be_named(rtdetr_with_masks: nn.Module):
    report = upgrade(rtdetr_with_masks, "deconv")
    assert [row.site for row in report.rows] == ["encoder", "encoder"]
    assert report.skipped == (
        "encoder: nearest, 1 channels, 256x256 → 32x32 (factor is not 2)",
        "masks: bilinear, 1 channels, 32x32 → 64x64 (one channel: a mask, not features)",
    )
    maps = torch.rand(1, 8, 4, 4)
    masks: nn.Module = rtdetr_with_masks.masks  # type: ignore[assignment]
    for parameter in rtdetr_with_masks.parameters():
        parameter.data.add_(0.1)
    assert torch.equal(masks(maps), nnf.interpolate(maps.mean(1, True), scale_factor=2.0, mode="bilinear"))
    downgrade(rtdetr_with_masks)
    assert [row.site for row in upgrade(rtdetr_with_masks, "deconv", neck="masks").rows] == ["masks"]


def test_calls_of_a_functional_neck_are_found(rtdetr: nn.Module):
    report = upgrade(rtdetr, "deconv")
    assert (report.finder, report.neck) == ("F.interpolate", "encoder")
    assert {row.site for row in report.rows} == {"encoder"}


def test_nothing_found_says_what_was_seen():
    with pytest.raises(ValueError, match=r"Conv2d has nothing that upsamples a feature map by 2.*none was called"):
        upgrade(nn.Conv2d(3, 4, 3), "deconv")
    quarter = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Upsample(scale_factor=4))
    with pytest.raises(ValueError, match=r"1: nearest, 4 channels, 254x254 → 1016x1016 \(factor is not 2\)"):
        upgrade(quarter, "deconv")
    transposed = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ConvTranspose2d(4, 4, 2, 2))
    with pytest.raises(ValueError, match=r"upsamples by 1 learned layers already \(ConvTranspose2d\)"):
        upgrade(transposed, "deconv")


def test_a_pyramid_of_one_stride_is_refused(torchvision_detector: Callable[[str], nn.Module]):
    model = torchvision_detector("fasterrcnn_mobilenet_v3_large_320_fpn")  # reads two maps of stride 32
    with pytest.raises(ValueError, match=r"backbone.fpn: nearest, 256 channels, 8x8 → 8x8 \(factor is not 2\)"):
        upgrade(model)


def conv(inputs: int, outputs: int, stride: int = 1) -> nn.Module:
    return nn.Conv2d(inputs, outputs, 3, stride, padding=1)


class SharedUpsample(nn.Module):
    """One ``nn.Upsample`` for two steps with 12 and 8 channels, as in YOLOX, RTMDet and PicoDet."""

    def __init__(self) -> None:
        super().__init__()
        self.stages = nn.ModuleList([conv(3, 4, 8), conv(4, 8, 2), conv(8, 12, 2)])
        self.upsample = nn.Upsample(scale_factor=2, mode="nearest")
        self.merge = nn.ModuleList([conv(20, 8), conv(12, 6)])

    def forward(self, x: Tensor) -> Tensor:
        """``[B, 3, H, W]`` → ``[B, 6, H/8, W/8]``."""
        c3 = self.stages[0](x)
        c4 = self.stages[1](c3)
        c5 = self.stages[2](c4)
        p4 = self.merge[0](torch.cat([self.upsample(c5), c4], 1))
        return self.merge[1](torch.cat([self.upsample(p4), c3], 1))


@torch.no_grad()
def add_one(model: nn.Module) -> None:
    """Let each added pixel shuffle output exactly 1."""
    for name, parameter in added_parameters(model).items():
        parameter.fill_(float(name.endswith("bias")))


def test_a_shared_upsample_gets_an_adapter_per_call():
    model, x = SharedUpsample(), torch.rand(1, 3, 64, 96)
    before = model(x)
    report = upgrade(model, "pixel-shuffle")
    assert [(row.level, row.channels, row.site) for row in report.rows] == [("p4", 12, ""), ("p3", 8, "")]
    assert torch.equal(model(x), before)
    add_one(model)
    c3 = model.stages[0](x)
    c4 = model.stages[1](c3)
    up = nn.Upsample(scale_factor=2)
    p4 = model.merge[0](torch.cat([up(model.stages[2](c4)) + 1, c4], 1))
    torch.testing.assert_close(model(x), model.merge[1](torch.cat([up(p4) + 1, c3], 1)))
    downgrade(model)
    assert (type(model), type(model.upsample)) == (SharedUpsample, nn.Upsample)


class Block(nn.Module):
    """Upsamples in its own ``forward``, resizing the skip connection first if the sizes do not fit, as in DPT."""

    def __init__(self, upsample: nn.Module | None) -> None:
        super().__init__()
        self.conv, self.upsample = conv(8, 8), upsample

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """``[B, 8, H, W]`` twice → ``[B, 8, 2H, 2W]``."""
        if x.shape != skip.shape:
            skip = nnf.interpolate(skip, size=x.shape[-2:], mode="bilinear")
        x = self.conv(x + skip)
        return self.upsample(x) if self.upsample else nnf.interpolate(x, scale_factor=2, mode="bilinear")


class Decoder(nn.Module):
    """Three blocks at strides 32, 16 and 8, pooled maps of 6x6 cells as in UperNet, and class logits at the end."""

    def __init__(self, upsample: nn.Module | None = None) -> None:
        super().__init__()
        self.stages = nn.ModuleList([conv(3, 8, 8), conv(8, 8, 2), conv(8, 8, 2)])
        self.blocks = nn.ModuleList(Block(upsample) for _ in range(3))
        self.pooled = nn.Sequential(nn.AdaptiveAvgPool2d(6), conv(8, 8))
        self.classifier = nn.Sequential(conv(8, 5), nn.Upsample(scale_factor=2))

    def forward(self, x: Tensor) -> Tensor:
        """``[B, 3, H, W]`` → ``[B, 5, 2H, 2W]``."""
        maps = [x]
        for stage in self.stages:
            maps.append(stage(maps[-1]))
        top = maps[-1] + nnf.interpolate(self.pooled(maps[-1]), size=maps[-1].shape[-2:])
        for block, skip in zip(self.blocks, reversed(maps[1:]), strict=True):
            top = block(top, skip)
        return self.classifier(top)


@pytest.mark.parametrize("upsample", [None, nn.Upsample(scale_factor=2, mode="bilinear")])
def test_every_block_is_a_site_at_every_size(upsample: nn.Module | None):
    model = Decoder(upsample).eval()
    sizes = [(384, 384), (64, 64), (96, 160), (200, 120), (192, 384)]
    before = [model(torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(1))) for size in sizes]
    report = upgrade(model, "pixel-shuffle", example_inputs=torch.rand(1, 3, 384, 384))
    assert [row.site for row in report.rows] == ["blocks.0", "blocks.1", "blocks.2"]
    assert report.neck == "blocks"
    assert report.skipped == (
        "the model itself: nearest, 8 channels, 6x6 → 12x12 (pooled map: as many cells for every image size)",
        "classifier.1: nearest, 5 channels, 96x96 → 192x192 (logits or masks: nothing learned after it)",
    )
    calls: list[str] = []
    for block in model.blocks:
        block.added.register_forward_hook(lambda module, args, output: calls.append("ran") if args[0] else None)
    for size, expected in zip(sizes, before, strict=True):
        assert torch.equal(model(torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(1))), expected)
        assert len(calls) >= 3
        calls.clear()


def test_several_necks_are_several_modules():
    model = Decoder()
    report = upgrade(model, "deconv", neck=["blocks.0", "blocks.2"])
    assert [row.site for row in report.rows] == ["blocks.0", "blocks.2"]
    assert "blocks.1: bilinear, 8 channels, 16x16 → 32x32 (outside of the neck)" in report.skipped
    downgrade(model)
    assert len(upgrade(model, "deconv", neck="blocks.0,blocks.2").rows) == 2
    downgrade(model)
    with pytest.raises(ValueError, match=r"upsamples a feature map by 2 in 'stages'.*\(outside of the neck\)"):
        upgrade(model, "deconv", neck="stages")


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
    assert report.skipped == ("fpn: nearest, 8 channels, 16x16 → 16x16 (factor is not 2)",)
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
