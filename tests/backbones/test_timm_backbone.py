"""timm networks under the papers' names: sizes, norms, freezing, and weights from other libraries' files."""

import math

import pytest
import timm
import torch
from torch import nn

from featlift.backbones import Backbone
from featlift.features import level_stride

SMALL = ["resnet10t", "mobilenetv3_small_050", "ese_vovnet19b_slim", "regnetx_002"]
ROUNDS_DOWN = "convnext_atto"
CHANNELS_LAST = "mambaout_femto"


@pytest.mark.parametrize("name", [*SMALL, ROUNDS_DOWN, CHANNELS_LAST])
def test_levels_strides_and_channels(name):
    backbone = Backbone(name).eval()
    for size in [(64, 32), (50, 33)]:
        maps = backbone(torch.rand(1, 3, *size))
        assert tuple(maps) == backbone.levels == ("c2", "c3", "c4", "c5")
        for level, x in maps.items():
            assert x.shape[:2] == (1, backbone.channels[level])
            for cells, side in zip(x.shape[-2:], size, strict=True):
                assert cells in (side // level_stride(level), math.ceil(side / level_stride(level)))


def test_fewer_levels_are_the_same_maps():
    backbone, fewer = Backbone("resnet10t").eval(), Backbone("resnet10t", levels=("c3", "c5")).eval()
    fewer.load_state_dict(backbone.state_dict())
    x = torch.rand(1, 3, 64, 64)
    assert list(fewer.channels) == ["c3", "c5"]
    for level, feature in fewer(x).items():
        torch.testing.assert_close(feature, backbone(x)[level])


def network_input(backbone: Backbone, image: torch.Tensor) -> torch.Tensor:
    """Input of the timm network for ``image``."""
    recorded = []
    backbone.network.register_forward_pre_hook(lambda _, inputs: recorded.append(inputs[0]))
    backbone(image)
    return recorded[0]


def test_normalization_is_inside():
    backbone = Backbone("resnet10t", mean_std=((0.5, 0.25, 0.0), (0.5, 0.25, 1.0)))
    expected = torch.tensor([1.0, 3.0, 1.0]).view(1, 3, 1, 1).expand(1, 3, 64, 64)
    torch.testing.assert_close(network_input(backbone, torch.ones(1, 3, 64, 64)), expected)


@pytest.mark.parametrize("name", SMALL)
def test_the_mean_color_becomes_zero(name):
    backbone = Backbone(name)
    assert not network_input(backbone, backbone.mean.expand(1, 3, 64, 64)).any()


# ---------------------------------------------------------------------------------------------------- norms


def batch_norms(backbone: nn.Module) -> list[nn.Module]:
    return [module for module in backbone.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]


@pytest.mark.parametrize("name", SMALL)
def test_frozen_norms_never_move(name):
    backbone = Backbone(name).train()
    assert not batch_norms(backbone)
    before = {key: value.clone() for key, value in backbone.named_buffers()}
    sum(x.square().sum() for x in backbone(torch.rand(2, 3, 64, 64)).values()).backward()
    assert any("running_mean" in key for key in before)
    assert all(torch.equal(value, before[key]) for key, value in backbone.named_buffers())
    assert not [key for key, parameter in backbone.named_parameters() if parameter.ndim == 1 and "bn" in key]
    # also in the residual branches that timm initializes with zero
    assert all(parameter.grad.any() for parameter in backbone.parameters())


@pytest.mark.parametrize("name", SMALL)
def test_group_norms_are_independent_of_the_batch(name):
    backbone = Backbone(name, norm="group").train()
    assert not batch_norms(backbone)
    assert any(isinstance(module, nn.GroupNorm) for module in backbone.modules())
    for module in backbone.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    images = torch.rand(2, 3, 64, 64)
    together = backbone(images)
    for i in range(2):
        for level, x in backbone(images[i : i + 1]).items():
            torch.testing.assert_close(x[0], together[level][i], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", ["regnetx_002", "ese_vovnet19b_slim"])
def test_group_norms_keep_the_activation_of_the_norms_they_replace(name):
    batch, group = Backbone(name, norm="batch"), Backbone(name, norm="group")
    for path, norm in batch.named_modules():
        if hasattr(norm, "act") and isinstance(norm, nn.BatchNorm2d):
            assert type(group.get_submodule(path)[-1]) is type(norm.act)


def test_batch_and_sync_norms():
    assert {type(norm) for norm in batch_norms(Backbone("resnet10t", norm="batch"))} == {nn.BatchNorm2d}
    assert {type(norm) for norm in batch_norms(Backbone("resnet10t", norm="sync"))} == {nn.SyncBatchNorm}


# ---------------------------------------------------------------------------------------------------- freezing


@pytest.mark.parametrize("stages", [2, 4])
@pytest.mark.parametrize("name", [*SMALL, "convnext_atto"])
def test_freezing_covers_exactly_the_layers_of_the_level(name, stages):
    """The layers that the level depends on are determined by autograd, not by names."""
    whole = Backbone(name, norm="batch").eval()
    names, parameters = zip(*whole.named_parameters(), strict=True)
    level = whole(torch.rand(1, 3, 32, 32))[f"c{stages}"]
    gradients = torch.autograd.grad(level.square().sum(), parameters, allow_unused=True)
    needed = {name for name, gradient in zip(names, gradients, strict=True) if gradient is not None}
    learning = Backbone(name, norm="batch", frozen_stages=stages).named_parameters()
    assert {name for name, parameter in learning if parameter.requires_grad} == set(names) - needed


def test_the_stem_alone_and_nothing():
    stem = Backbone("resnet18", norm="batch", frozen_stages=1)
    still = [name for name, parameter in stem.network.named_parameters() if not parameter.requires_grad]
    assert still == ["conv1.weight"]
    assert not isinstance(stem.network.bn1, torch.nn.BatchNorm2d)  # frozen with its statistics
    assert all(parameter.requires_grad for parameter in Backbone("resnet18", norm="batch").parameters())


# ---------------------------------------------------------------------------------------------------- weights


# ---------------------------------------------------------------------------------------------------- errors, encoders


def test_errors_name_what_is_possible():
    with pytest.raises(ValueError, match=r"no network 'resnet5O'.*resnet50"):
        Backbone("resnet5O")
    with pytest.raises(ValueError, match=r"norm of a backbone 'layer'; choose one of frozen, batch, sync, group"):
        Backbone("resnet10t", norm="layer")
    with pytest.raises(ValueError, match=r"'resnet10t' has maps at strides \[2, 4, 8, 16, 32\]; it has none for c6"):
        Backbone("resnet10t", levels=("c5", "c6"))


def test_weights_that_cannot_be_downloaded_are_named_with_the_remedy(monkeypatch):
    create = timm.create_model

    def without_network(name, pretrained=False, **options):
        if pretrained:
            raise ConnectionError("Name or service not known")
        return create(name, pretrained=False, **options)

    monkeypatch.setattr(timm, "create_model", without_network)
    with pytest.raises(OSError, match="ImageNet weights of 'resnet10t' could not be downloaded") as error:
        Backbone("resnet10t", pretrained=True)
    assert "(Name or service not known)" in str(error.value)
    assert "--model.backbone-weights FILE" in str(error.value)
