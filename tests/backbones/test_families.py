"""Backbones: a list of small timm networks of every family of the papers, at any size, frozen layer by layer."""

import pytest
import torch
from torch import nn

from featlift.backbones import BACKBONE_LEVELS, Backbone

SMALL = (
    "test_resnet",
    "test_efficientnet",
    "test_byobnet",
    "test_convnext",
    "resnext26ts",  # ResNeXt
    "resnest14d",  # ResNeSt
    "ese_vovnet19b_slim_dw",  # VoVNet, which rounds odd sizes down
    "swin_tiny_patch4_window7_224",  # a transformer for one size, channels last
)


@pytest.fixture(scope="module")
def networks():
    torch.manual_seed(0)
    return {name: Backbone(name, drop_path_rate=0.0).eval() for name in SMALL}


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("size", [(64, 96), (75, 51)])
def test_any_size(networks, name, size):
    with torch.inference_mode():
        maps = networks[name](torch.rand(1, 3, *size))
    assert list(maps) == list(BACKBONE_LEVELS)
    for level, x in maps.items():
        step = 2 ** int(level[1])
        assert x.shape[:2] == (1, networks[name].channels[level])
        assert x.shape[2] in {size[0] // step, -(-size[0] // step)}
        assert x.shape[3] in {size[1] // step, -(-size[1] // step)}


@pytest.mark.parametrize("name", ["test_resnet", "swin_tiny_patch4_window7_224"])
def test_equals_timms_network(networks, name):
    """At multiples of 32 nothing is padded, and the maps are those of the network on the normalized image, channels first."""
    backbone, image = networks[name], torch.rand(1, 3, 64, 96)
    with torch.inference_mode():
        expected = backbone.network((image - backbone.mean) / backbone.std)
        maps = backbone(image)
    last = expected[-1].permute(0, 3, 1, 2) if name.startswith("swin") else expected[-1]
    torch.testing.assert_close(maps["c5"], last)


def test_swin_is_padded_with_the_mean_color(networks):
    """An image padded with the mean color gives the same maps, which are cropped to the image."""
    backbone, image = networks["swin_tiny_patch4_window7_224"], torch.rand(1, 3, 40, 60)
    padded = backbone.mean.expand(1, 3, 64, 64).clone()
    padded[..., :40, :60] = image
    with torch.inference_mode():
        maps, expected = backbone(image), backbone(padded)
    for level in BACKBONE_LEVELS:
        height, width = -(-40 // 2 ** int(level[1])), -(-60 // 2 ** int(level[1]))
        torch.testing.assert_close(maps[level], expected[level][..., :height, :width])


@pytest.mark.parametrize("name", ["test_resnet", "test_efficientnet", "test_convnext", "swin_tiny_patch4_window7_224"])
@pytest.mark.parametrize("stages", [0, 2, 3, 5])
def test_frozen_up_to_a_level(networks, name, stages):
    """Maps up to the frozen stage carry no graph, later ones do."""
    if stages == 2 or not name.startswith("swin"):
        maps = Backbone(name, norm="batch", frozen_stages=stages)(torch.rand(2, 3, 64, 64))
        assert [x.requires_grad for x in maps.values()] == [int(level[1]) > stages for level in maps]


def test_frozen_stages_keep_their_statistics():
    torch.manual_seed(0)
    backbone = Backbone("test_resnet", norm="batch", frozen_stages=3).train()
    before = {name: value.clone() for name, value in backbone.state_dict().items() if "running" in name}
    backbone(torch.rand(2, 3, 64, 64))
    after = backbone.state_dict()
    stayed = {name: torch.equal(value, after[name]) for name, value in before.items()}
    late = {name for name in stayed if "layer3" in name or "layer4" in name}
    assert {name for name in stayed if not stayed[name]} == late
    assert late < set(stayed)


def test_drop_path_drops_branches():
    torch.manual_seed(0)
    backbone, image = Backbone("test_convnext", drop_path_rate=0.9).train(), torch.rand(4, 3, 64, 64)
    assert not torch.equal(backbone(image)["c5"], backbone(image)["c5"])
    backbone.eval()
    torch.testing.assert_close(backbone(image)["c5"], backbone(image)["c5"])


def test_unsupported_networks_and_options():
    with pytest.raises(ValueError, match=r"has no network 'resnet-50'\. Did you mean 'resnet50'"):
        Backbone("resnet-50")
    with pytest.raises(ValueError, match="strides"):
        Backbone("test_vit")
    with pytest.raises(ValueError, match="Try drop_path_rate=0"):
        Backbone("hrnet_w18_small", drop_path_rate=0.2)


def test_group_norms_need_no_batch():
    backbone = Backbone("test_resnet", norm="group").train()
    assert not any(isinstance(m, nn.BatchNorm2d) for m in backbone.modules())
    images = torch.rand(2, 3, 64, 64)
    torch.testing.assert_close(backbone(images)["c5"][:1], backbone(images[:1])["c5"], atol=1e-5, rtol=1e-4)
