"""Stage 2 without its downsampling, against the whole network and against its strided output."""

import pytest
import torch
from torch import nn

from featlift.backbones import Backbone
from featlift.backbones.stride2 import stride_one

LIKE_RESNET = ["resnet10t", "resnet18", "resnet18d"]
LIKE_EFFICIENTNET = ["mobilenetv2_035", "mobilenetv3_small_050", "efficientnet_lite0"]


@pytest.mark.parametrize("name", LIKE_RESNET)
def test_without_pooling(name):
    """EFPN's Table I: c2 with the pooling; the same weights at twice the size without it."""
    backbone = Backbone(name).eval()
    image = torch.rand(2, 3, 64, 96)
    c1 = backbone.forward_stem(image)
    assert c1.shape[-2:] == (32, 48)
    pooled = backbone.network["maxpool"](c1)
    torch.testing.assert_close(backbone.forward_unpooled(pooled), backbone(image)["c2"])
    assert backbone.forward_unpooled(c1).shape == (2, backbone.channels["c2"], 32, 48)


@pytest.mark.parametrize("name", LIKE_EFFICIENTNET)
def test_without_stride(name):
    """Stage 2 gives c2 from c1, and with stride 1 a map of the size of c1."""
    backbone = Backbone(name).eval()
    image = torch.rand(2, 3, 64, 96)
    c1, stage2 = backbone.forward_stem(image), first_strided_stage(backbone.network)
    torch.testing.assert_close(stage2(c1), backbone(image)["c2"])
    c2x = backbone.forward_unpooled(c1)
    assert c2x.shape == (2, backbone.channels["c2"], 32, 48)
    with stride_one(stage2):
        torch.testing.assert_close(stage2(c1), c2x)


@pytest.mark.parametrize("name", ["mobilenetv2_035", "efficientnet_lite0"])
def test_every_other_cell_is_the_strided_block(name):
    """Every second cell of the strided block with stride 1 equals its strided output."""
    backbone = Backbone(name).eval()
    block = first_strided_stage(backbone.network)[0]
    c1 = backbone.forward_stem(torch.rand(1, 3, 64, 96))
    with stride_one(block):
        unstrided = block(c1)
    torch.testing.assert_close(unstrided[..., ::2, ::2], block(c1))


def first_strided_stage(network):
    """The only stage between the maps of stride 2 and 4, found by its strides."""
    strided = [s for s in network.blocks if any(m.stride == (2, 2) for m in s.modules() if isinstance(m, nn.Conv2d))]
    return strided[0]


def test_strides_are_restored():
    stage = nn.Sequential(nn.Conv2d(1, 1, 3, (2, 1)), nn.Conv2d(1, 1, 1))
    with stride_one(stage):
        assert [layer.stride for layer in stage] == [(1, 1), (1, 1)]
    assert [layer.stride for layer in stage] == [(2, 1), (1, 1)]


@pytest.mark.parametrize(("name", "layer"), [("resnet10t", "layer1"), ("mobilenetv2_035", "blocks.1")])
def test_weights_are_shared(name, layer):
    backbone = Backbone(name).eval()
    c1 = backbone.forward_stem(torch.rand(1, 3, 32, 32))
    before = backbone.forward_unpooled(c1)
    with torch.no_grad():
        next(backbone.network.get_submodule(layer).parameters()).zero_()
    assert not torch.equal(backbone.forward_unpooled(c1), before)


@pytest.mark.parametrize("name", ["convnext_atto", "mambaout_femto", "regnetx_002"])
def test_unsupported_networks(name):
    with pytest.raises(TypeError, match=r"begins with stem.*the ResNet family"):
        Backbone(name).forward_stem(torch.rand(1, 3, 32, 32))
