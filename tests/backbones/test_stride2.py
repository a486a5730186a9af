"""Stage 2 without what halves the map before it, against the whole network and against its own strided self."""

import pytest
import torch
from torch import nn

from featlift.backbones import Backbone
from featlift.backbones.stride2 import stride_one

LIKE_RESNET = ["resnet10t", "resnet18", "resnet18d"]
LIKE_EFFICIENTNET = ["mobilenetv2_035", "mobilenetv3_small_050", "efficientnet_lite0"]


@pytest.mark.parametrize("name", LIKE_RESNET)
def test_without_pooling(name):
    """EFPN's Table I: with the pooling it would be c2; without, the same weights at twice the size."""
    backbone = Backbone(name).eval()
    image = torch.rand(2, 3, 64, 96)
    c1 = backbone.forward_stem(image)
    assert c1.shape[-2:] == (32, 48)
    pooled = backbone.network["maxpool"](c1)
    torch.testing.assert_close(backbone.forward_unpooled(pooled), backbone(image)["c2"])
    assert backbone.forward_unpooled(c1).shape == (2, backbone.channels["c2"], 32, 48)


@pytest.mark.parametrize("name", LIKE_EFFICIENTNET)
def test_without_stride(name):
    """What is left of the whole network after c1 gives c2, and without strides it has every cell of c1."""
    backbone = Backbone(name).eval()
    image = torch.rand(2, 3, 64, 96)
    c1, rest = backbone.forward_stem(image), first_strided_stage(backbone.network)
    torch.testing.assert_close(rest(c1), backbone(image)["c2"])
    c2x = backbone.forward_unpooled(c1)
    assert c2x.shape == (2, backbone.channels["c2"], 32, 48)
    with stride_one(rest):
        torch.testing.assert_close(rest(c1), c2x)


@pytest.mark.parametrize("name", ["mobilenetv2_035", "efficientnet_lite0"])
def test_every_other_cell_is_the_strided_block(name):
    """In the block that has the stride every cell looks at the same neighbors as before, so that every other one is as it was."""
    backbone = Backbone(name).eval()
    block = first_strided_stage(backbone.network)[0]
    c1 = backbone.forward_stem(torch.rand(1, 3, 64, 96))
    with stride_one(block):
        finer = block(c1)
    torch.testing.assert_close(finer[..., ::2, ::2], block(c1))


def first_strided_stage(network):
    """The only stage between the maps of stride 2 and 4, found by its strides."""
    strided = [s for s in network.blocks if any(m.stride == (2, 2) for m in s.modules() if isinstance(m, nn.Conv2d))]
    return strided[0]


def test_strides_come_back():
    stage = nn.Sequential(nn.Conv2d(1, 1, 3, (2, 1)), nn.Conv2d(1, 1, 1))
    with stride_one(stage):
        assert [layer.stride for layer in stage] == [(1, 1), (1, 1)]
    assert [layer.stride for layer in stage] == [(2, 1), (1, 1)]


@pytest.mark.parametrize(("name", "layer"), [("resnet10t", "layer1"), ("mobilenetv2_035", "blocks.1")])
def test_it_is_the_same_weights(name, layer):
    backbone = Backbone(name).eval()
    c1 = backbone.forward_stem(torch.rand(1, 3, 32, 32))
    before = backbone.forward_unpooled(c1)
    with torch.no_grad():
        next(backbone.network.get_submodule(layer).parameters()).zero_()
    assert not torch.equal(backbone.forward_unpooled(c1), before)


@pytest.mark.parametrize("name", ["convnext_atto", "mambaout_femto", "regnetx_002"])
def test_other_networks_are_refused_by_name(name):
    with pytest.raises(TypeError, match=r"begins with stem.*the ResNet family"):
        Backbone(name).forward_stem(torch.rand(1, 3, 32, 32))
