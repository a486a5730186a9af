"""timm networks under the papers' names: sizes, norms, freezing, and weights from other libraries' files."""

import math
from pathlib import Path

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn

from featlift.backbones import Backbone, ImageEncoder, image_encoder, load_weights
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


@pytest.fixture(scope="module")
def resnet() -> nn.Module:
    """torchvision's network with random batch-norm statistics."""
    torch.manual_seed(1)
    network = torchvision.models.resnet18()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.1, 0.1)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
            nn.init.uniform_(module.weight, 0.5, 1.5)
    return network.eval()


def layers(network: nn.Module, x: torch.Tensor) -> dict[str, torch.Tensor]:
    x = network.maxpool(network.relu(network.bn1(network.conv1(x))))
    maps = {}
    for level in ("c2", "c3", "c4", "c5"):
        maps[level] = x = getattr(network, f"layer{int(level[1]) - 1}")(x)
    return maps


@pytest.mark.parametrize("wrapped", ["plain", "model", "state_dict", "module.", "safetensors"])
def test_torchvisions_file_gives_torchvisions_features(resnet, tmp_path, wrapped):
    tensors = resnet.state_dict()
    path = tmp_path / ("weights.safetensors" if wrapped == "safetensors" else "weights.pth")
    if wrapped == "safetensors":
        save_file(tensors, path)
    elif wrapped == "module.":
        torch.save({f"module.{name}": value for name, value in tensors.items()}, path)
    else:
        torch.save(tensors if wrapped == "plain" else {wrapped: tensors}, path)
    backbone = Backbone("resnet18", pretrained=path).eval()
    image = torch.rand(1, 3, 33, 65)
    for level, expected in layers(resnet, (image - backbone.mean) / backbone.std).items():
        torch.testing.assert_close(backbone(image)[level], expected, rtol=1e-3, atol=1e-4)


def test_other_names_in_the_same_order(resnet, tmp_path):
    torch.save(
        {f"tensor{i}": value for i, value in enumerate(resnet.state_dict().values()) if value.ndim}, tmp_path / "w.pth"
    )
    named = dict(Backbone("resnet18", norm="batch", pretrained=tmp_path / "w.pth").network.named_parameters())
    assert torch.equal(named["layer4.1.conv2.weight"], resnet.layer4[1].conv2.weight)
    assert torch.equal(named["layer3.0.downsample.0.weight"], resnet.layer3[0].downsample[0].weight)


def test_its_own_weights_come_back_through_a_file(tmp_path):
    backbone = Backbone("mobilenetv3_small_050", norm="batch")
    torch.save(backbone.network.state_dict(), tmp_path / "own.pth")
    loaded = Backbone("mobilenetv3_small_050", norm="batch", pretrained=str(tmp_path / "own.pth"))
    assert all(torch.equal(a, b) for a, b in zip(backbone.parameters(), loaded.parameters(), strict=True))


def test_the_wrong_network_reports_the_first_mismatch(resnet, tmp_path):
    torch.save(resnet.state_dict(), tmp_path / "resnet18.pth")
    with pytest.raises(
        ValueError,
        match=r"does not fit: \d+ of \d+ tensors match by name.*corresponds to 'conv1.weight' \(64, 3, 7, 7\)",
    ):
        Backbone("mobilenetv3_small_050", pretrained=tmp_path / "resnet18.pth")


def test_too_few_tensors(resnet, tmp_path):
    torch.save({"conv1.weight": resnet.conv1.weight.detach()}, tmp_path / "short.pth")
    with pytest.raises(ValueError, match=r"holds 1 tensors; the network needs 100"):
        Backbone("resnet18", pretrained=tmp_path / "short.pth")


def test_no_state_dict_and_no_file(tmp_path):
    torch.save([torch.zeros(1)], tmp_path / "list.pth")
    with pytest.raises(ValueError, match=r"holds a list; expected a state dict"):
        load_weights(nn.Linear(1, 1), tmp_path / "list.pth")
    with pytest.raises(FileNotFoundError, match=r"no weight file 'nowhere.pth'"):
        load_weights(nn.Linear(1, 1), Path("nowhere.pth"))


# ---------------------------------------------------------------------------------------------------- errors, encoders


def test_errors_name_what_is_possible():
    with pytest.raises(ValueError, match=r"no network 'resnet5O'.*resnet50"):
        Backbone("resnet5O")
    with pytest.raises(ValueError, match=r"norm of a backbone 'layer'; choose one of frozen, batch, sync, group"):
        Backbone("resnet10t", norm="layer")
    with pytest.raises(ValueError, match=r"'resnet10t' has maps at strides \[2, 4, 8, 16, 32\]; it has none for c6"):
        Backbone("resnet10t", levels=("c5", "c6"))


def test_encoders():
    network = image_encoder("resnet10t").eval()
    assert isinstance(network, ImageEncoder)
    assert network(torch.rand(2, 3, 65, 33)).shape == (2, network.channels, 3, 2)
    transformer = ImageEncoder("vit_tiny_patch16_224").eval()
    assert transformer(torch.rand(1, 3, 224, 224)).shape == (1, 14 * 14 + 1, transformer.channels)
