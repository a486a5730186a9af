import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.ops import FeaturePyramidNetwork

from featlift.detectors import detector, extractor
from featlift.interpolators import (
    GUIDED_INTERPOLATORS,
    INTERPOLATORS,
    PER_STEP_INTERPOLATORS,
    build_interpolators,
    interpolator,
)
from featlift.pyramids import FPN
from featlift.upgrading import added_parameters, downgrade, is_upgraded, upgrade

DETECTORS = (
    "fasterrcnn_resnet50_fpn",
    "maskrcnn_resnet50_fpn",
    "keypointrcnn_resnet50_fpn",
    "retinanet_resnet50_fpn",
    "fcos_resnet50_fpn",
)
SMALL = {"afi": {"num_blocks": 1, "growth_rate": 4}, "srf": {"num_blocks": 1}, "afi-rb": {"num_blocks": 1}}
SMALL |= {"dysample": {"groups": 2}, "lda-aqu": {"reduction": 1}}  # for 10 channels
FOREIGN = {"pyramid": "", "yolo": "", "rtdetr": "", "rtdetr_with_masks": "encoder"}


def random_images(height: int = 96, width: int = 64, batch: int = 1) -> Tensor:
    return torch.rand(batch, 3, height, width, generator=torch.Generator().manual_seed(7))


def flat(answer: Any) -> list[Tensor]:
    if isinstance(answer, Tensor):
        return [answer]
    values = answer.values() if isinstance(answer, dict) else answer
    return [x for value in values for x in flat(value)]


@torch.no_grad()
def outputs(model: nn.Module, x: Any) -> list[Tensor]:
    return [t.clone() for t in flat(model(x))]


def assert_same(a: list[Tensor], b: list[Tensor]) -> None:
    assert len(a) == len(b)
    assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def assert_different(a: list[Tensor], b: list[Tensor]) -> None:
    assert any(x.shape != y.shape or not torch.equal(x, y) for x, y in zip(a, b, strict=True))


@torch.no_grad()
def shake(model: nn.Module) -> None:
    for x in [*model.parameters(), *(b for b in model.buffers() if b.is_floating_point())]:
        x.add_(torch.rand(x.shape, generator=torch.Generator().manual_seed(1)).to(x) * 0.1)


@pytest.mark.parametrize("name", DETECTORS)
def test_torchvision_detectors_give_the_same_until_trained_and_after_downgrade(
    name: str, torchvision_detector: Callable[[str], nn.Module]
):
    model = torchvision_detector(name)
    images = [random_images(70, 91)[0], random_images(64, 64)[0]]
    before, keys = outputs(model, images), list(model.state_dict())
    pyramid: Any = model.backbone.fpn  # type: ignore[union-attr]
    report = upgrade(model, "afi", **SMALL["afi"])
    assert [row.level for row in report.rows] == (["p4", "p3", "p2"] if "rcnn" in name else ["p4", "p3"])
    assert isinstance(pyramid, FPN)
    assert [key for key in model.state_dict() if ".added." not in key] == keys
    assert sum(len(x) for x in before) > 0
    assert_same(outputs(model, images), before)
    for parameter in model.parameters():
        parameter.data.mul_(1.5)
    downgrade(model)
    assert type(pyramid) is FeaturePyramidNetwork
    assert list(model.state_dict()) == keys
    assert_same(outputs(model, images), before)


@pytest.mark.parametrize("name", [name for name in INTERPOLATORS if name not in ("nearest", *GUIDED_INTERPOLATORS)])
@pytest.mark.parametrize("network", FOREIGN)
def test_every_interpolator_with_every_finder(name: str, network: str, request: pytest.FixtureRequest):
    model = request.getfixturevalue(network)
    before = outputs(model, random_images())
    modules = {path: type(module) for path, module in model.named_modules()}
    options = SMALL.get(name, {})
    report = upgrade(model, name, neck=FOREIGN[network], **options)
    assert len(report.rows) == 2
    assert report.parameters == sum(p.numel() for p in added_parameters(model).values()) > 0
    assert_same(outputs(model, random_images()), before)
    loss = sum(x.square().mean() for x in flat(model(random_images())))
    loss.backward()  # type: ignore[union-attr]
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in added_parameters(model).values())
    shake(model)
    assert_different(outputs(model, random_images()), before)
    downgrade(model)
    assert {path: type(module) for path, module in model.named_modules()} == modules
    assert_same(outputs(model, random_images()), before)


@pytest.mark.parametrize("name", GUIDED_INTERPOLATORS)
def test_a_guided_interpolator_gets_the_lateral_map_in_an_fpn(name: str):
    fpn = FeaturePyramidNetwork([4, 6], 8).eval()
    maps = {"c4": torch.randn(1, 4, 9, 6), "c5": torch.randn(1, 6, 5, 3)}
    before = fpn(maps)
    report = upgrade(fpn, name, example_inputs=(maps,))
    assert report.parameters == sum(p.numel() for p in interpolator(name, 8).parameters()) + 8
    assert all(torch.equal(y, before[level]) for level, y in fpn(maps).items())
    adapter = fpn.added[0]
    nn.init.ones_(adapter.gate)
    coarse, lateral = fpn.inner_blocks[1](maps["c5"]), fpn.inner_blocks[0](maps["c4"])
    inner = lateral + adapter.branch(coarse, lateral)[..., :9, :6]
    torch.testing.assert_close(fpn(maps)["c4"], fpn.layer_blocks[0](inner))


@pytest.mark.parametrize("network", [name for name in FOREIGN if name != "pyramid"])
def test_a_guided_interpolator_is_refused_where_the_lateral_map_is_not_known(
    network: str, request: pytest.FixtureRequest
):
    model = request.getfixturevalue(network)
    before = outputs(model, random_images())
    with pytest.raises(ValueError, match=r"'freqfusion' also reads the lateral map.*only in an FPN.*'lda-aqu'"):
        upgrade(model, "freqfusion", neck=FOREIGN[network])
    assert_same(outputs(model, random_images()), before)


@pytest.mark.parametrize("name", ["afi", "deconv", "carafe"])
def test_an_adapter_is_shared_or_there_is_one_per_step(name: str, pyramid: nn.Module):
    report = upgrade(pyramid, name)
    each = [row.parameters for row in report.rows]
    count = sum(p.numel() for p in interpolator(name, 16).parameters()) + (16 if name == "carafe" else 0)
    assert each == ([count, count] if name in PER_STEP_INTERPOLATORS else [count, 0])


@pytest.mark.parametrize("size", [(33, 47), (100, 75), (32, 32), (257, 31)])
def test_odd_sizes(size: tuple[int, int], pyramid: nn.Module, rtdetr: nn.Module):
    before = outputs(pyramid, random_images(*size))
    upgrade(pyramid, "afi", **SMALL["afi"])
    assert_same(outputs(pyramid, random_images(*size)), before)
    shake(pyramid)
    assert [x.shape for x in outputs(pyramid, random_images(*size))] == [x.shape for x in before]


@pytest.mark.parametrize("network", FOREIGN)
@pytest.mark.parametrize("name", ["afi", "carafe"])
def test_bfloat16(name: str, network: str, request: pytest.FixtureRequest):
    model = request.getfixturevalue(network).bfloat16()
    before = outputs(model, random_images().bfloat16())
    upgrade(model, name, neck=FOREIGN[network])
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    assert_same(outputs(model, random_images().bfloat16()), before)


@pytest.mark.parametrize("name", ["afi", "carafe"])
def test_autocast_keeps_types_and_values(name: str, pyramid: nn.Module):
    with torch.autocast("cpu", torch.bfloat16):
        before = outputs(pyramid, random_images())
        upgrade(pyramid, name)
        after = outputs(pyramid, random_images())
    assert [x.dtype for x in after] == [x.dtype for x in before]
    assert_same(after, before)


@pytest.mark.parametrize("network", FOREIGN)
def test_modes_copies_state_dicts_and_pickles(network: str, request: pytest.FixtureRequest, tmp_path: Any):
    model = request.getfixturevalue(network)
    original = copy.deepcopy(model)
    upgrade(model, "srf", neck=FOREIGN[network], **SMALL["srf"])
    assert not any(module.training for module in model.modules())
    assert all(module.training for module in model.train().modules())
    shake(model.eval())
    trained = outputs(model, random_images())
    copied = copy.deepcopy(model)
    torch.save(model, tmp_path / "whole.pt")
    pickled = torch.load(tmp_path / "whole.pt", weights_only=False)
    fresh = copy.deepcopy(original)
    upgrade(fresh, "srf", neck=FOREIGN[network], **SMALL["srf"])
    fresh.load_state_dict(model.state_dict())
    downgrade(model)
    for other in (copied, pickled, fresh):
        assert_same(outputs(other, random_images()), trained)
        downgrade(other, original.state_dict() if other is pickled else None)
        assert_same(outputs(other, random_images()), outputs(original, random_images()))


def test_upgrading_leaves_modes_gradients_and_statistics_alone(yolo: nn.Module):
    yolo.train()
    yolo.model[1].eval()  # type: ignore[index]
    modes = [module.training for module in yolo.modules()]
    state = {name: x.clone() for name, x in yolo.state_dict().items()}
    upgrade(yolo, "afi", **SMALL["afi"])
    assert [m.training for n, m in yolo.named_modules() if ".added" not in n] == modes
    assert all(torch.equal(x, yolo.state_dict()[name]) for name, x in state.items())
    assert all(p.requires_grad for p in added_parameters(yolo).values())


def test_attributes_references_and_hooks_survive(yolo: nn.Module, rtdetr: Any, pyramid: nn.Module):
    layer: Any = yolo.model[3]  # type: ignore[index]
    upgrade(yolo, "pixel-shuffle")
    assert layer is yolo.model[3]  # type: ignore[index]
    assert layer.f == -1
    encoder = rtdetr.encoder
    upgrade(rtdetr, "pixel-shuffle")
    assert rtdetr.encoder is encoder
    assert encoder.out_channels == [8, 8, 8]
    calls: list[str] = []
    pyramid.fpn.register_forward_hook(lambda *_: calls.append("ran"))  # type: ignore[operator, union-attr]
    upgrade(pyramid, "pixel-shuffle")
    outputs(pyramid, random_images())
    assert "ran" in calls


@pytest.mark.parametrize(("name", "network"), [("afi", "pyramid"), *(("deconv", network) for network in FOREIGN)])
def test_exported_and_compiled_equal_eager(name: str, network: str, request: pytest.FixtureRequest):
    model = request.getfixturevalue(network)
    upgrade(model, name, neck=FOREIGN[network], **SMALL.get(name, {}))
    shake(model)
    expected = outputs(model, random_images())
    exported = torch.export.export(model, (random_images(),)).module()
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    for other in (exported, compiled):
        for a, b in zip(outputs(other, random_images()), expected, strict=True):
            torch.testing.assert_close(a, b)
    torch._dynamo.reset()


class Backbone(nn.Module):
    """c3, c4, c5 by three strided convolutions."""

    channels = {"c3": 4, "c4": 6, "c5": 8}
    mean: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.full((1, 3, 1, 1), 0.5))
        self.stages = nn.ModuleList([nn.Conv2d(3, 4, 8, 8), nn.Conv2d(4, 6, 2, 2), nn.Conv2d(6, 8, 2, 2)])

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """``[B, 3, H, W]`` → c3 … c5."""
        maps = {}
        for level, stage in zip(self.channels, self.stages, strict=True):
            maps[level] = x = stage(x)
        return maps


@pytest.mark.parametrize("name", ["afi", "deconv"])
@pytest.mark.parametrize("family", ["retinanet", "fcos"])
def test_featlift_detectors(family: str, name: str):
    torch.manual_seed(0)
    model = detector(family, extractor(family, Backbone(), [interpolator("nearest", 64)], 64), num_classes=2).eval()
    keys, images = list(model.state_dict()), [random_images()[0]]
    before = outputs(model, images)
    report = upgrade(model, name, **SMALL.get(name, {}))
    assert report.finder == "FeatLift pyramid"
    assert [row.level for row in report.rows] == ["p4", "p3"]
    assert (report.rows[1].parameters > 0) == (name in PER_STEP_INTERPOLATORS)
    assert_same(outputs(model, images), before)
    shake(model)
    downgrade(model)
    assert list(model.state_dict()) == keys
    assert_same(outputs(model, images), before)


def test_learned_pyramids_refuse():
    steps = build_interpolators("deconv", 32, 2)
    model = detector("retinanet", extractor("retinanet", Backbone(), steps, 32), num_classes=2)
    with pytest.raises(ValueError, match=r"'backbone.pyramid' already has learned interpolators \(Deconvolution"):
        upgrade(model)


def test_twice_is_refused(pyramid: nn.Module):
    upgrade(pyramid, "deconv")
    with pytest.raises(ValueError, match=r"already upgraded at 'fpn'.*downgrade it first"):
        upgrade(pyramid, "deconv")
    with pytest.raises(ValueError, match=r"already upgraded at 'inner.fpn'"):
        upgrade(nn.ModuleDict({"inner": pyramid}), "deconv")
    with pytest.raises(ValueError, match=r"Its submodule 'inner' is"):
        downgrade(nn.ModuleDict({"inner": pyramid}))


def test_a_distributed_network_is_refused_and_other_wrappers_are_opened(yolo: nn.Module, pyramid: nn.Module):
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    try:
        with pytest.raises(ValueError, match="upgrade the network first, then wrap it"):
            upgrade(nn.parallel.DistributedDataParallel(yolo), "light")
    finally:
        torch.distributed.destroy_process_group()
    assert not is_upgraded(yolo)
    compiled = torch.compile(pyramid, backend="eager")
    before = outputs(compiled, random_images())
    upgrade(compiled, "light")  # type: ignore[arg-type]
    assert is_upgraded(pyramid)
    assert is_upgraded(compiled)
    assert_same(outputs(compiled, random_images()), before)
    shake(pyramid)
    assert_same(outputs(compiled, random_images()), outputs(pyramid, random_images()))
    torch._dynamo.reset()


def test_the_copy_of_the_original_weights_is_optional(yolo: nn.Module):
    original = copy.deepcopy(yolo)
    upgrade(yolo, "light", keep_weights=False)
    shake(yolo)
    with pytest.raises(ValueError, match=r"no copy of its original weights.*weights=model\.state_dict\(\)"):
        downgrade(yolo)
    with pytest.raises(ValueError, match=r"weights lack \d+ tensors.*model\.0"):
        downgrade(yolo, {})
    kept = copy.deepcopy(yolo)
    downgrade(kept, kept.state_dict())
    assert all(torch.equal(x, yolo.state_dict()[name]) for name, x in kept.state_dict().items())
    assert list(kept.state_dict()) == list(original.state_dict())
    downgrade(yolo, original.state_dict())
    assert_same(outputs(yolo, random_images()), outputs(original, random_images()))


def test_the_existing_interpolation_is_rejected(pyramid: nn.Module, yolo: nn.Module):
    with pytest.raises(ValueError, match="already uses nearest interpolation"):
        upgrade(pyramid, "nearest")
    upgrade(yolo, "nearest")  # its second upsampling is bilinear


def test_downgrade_needs_an_upgrade_and_the_old_parts(pyramid: nn.Module):
    with pytest.raises(ValueError, match="is not upgraded"):
        downgrade(pyramid)
    upgrade(pyramid, "deconv")
    body = pyramid.body
    pyramid.body = nn.Identity()
    with pytest.raises(ValueError, match=r"no longer match the network \(body\.0"):
        downgrade(pyramid)
    pyramid.body = body
    downgrade(pyramid)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "afii"}, "Did you mean 'afi'"),
        ({"name": "afi", "block": 3}, "has no option block"),
        ({"name": "afi", "init": "mild"}, "An upgrade sets init itself"),
        ({"neck": "fnp"}, "has no module 'fnp'"),
    ],
)
def test_what_is_refused_changes_nothing(options: dict[str, Any], message: str, pyramid: nn.Module):
    keys = list(pyramid.state_dict())
    with pytest.raises(ValueError, match=message):
        upgrade(pyramid, **options)
    assert list(pyramid.state_dict()) == keys
    upgrade(pyramid, "deconv")


def test_an_fpn_itself_can_be_upgraded():
    torch.manual_seed(0)
    model = FeaturePyramidNetwork([4, 6], 8)
    maps = {"c4": torch.rand(1, 4, 7, 9), "c5": torch.rand(1, 6, 4, 5)}
    before = outputs(model, maps)
    report = upgrade(model, "deconv")
    assert report.rows[0].gmac is None
    assert list(model(maps)) == ["c4", "c5"]
    assert_same(outputs(model, maps), before)
    downgrade(model)
    assert type(model) is FeaturePyramidNetwork


def test_training_only_what_was_added_lowers_a_loss(pyramid: nn.Module):
    target = random_images(12, 8)[:, :1]
    upgrade(pyramid, "deconv")
    state = {name: x.clone() for name, x in pyramid.state_dict().items() if ".added." not in name}
    optimizer = torch.optim.Adam(added_parameters(pyramid).values(), lr=1e-2)
    losses = []
    for _ in range(20):
        loss = (pyramid(random_images())["c3"] - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]
    assert all(torch.equal(x, pyramid.state_dict()[name]) for name, x in state.items())
