"""Texture transfers: parameters, shapes, and FTT layer by layer."""

import pytest
import torch
import torch.nn.functional as nnf

from featlift.interpolators import INTERPOLATORS
from featlift.pyramids.efpn import ExtendedLevel
from featlift.pyramids.texture_transfers import FTT, TEXTURE_TRANSFERS, PaperFTT, texture_transfer

CHEAP = [name for name in INTERPOLATORS if name not in ("afi", "srf", "afi-rb")]


LEVEL_CONVS = 655_360  # the 1x1 and the 3x3 convolution of p2x at 256 channels


COUNTS = {
    "ftt": 2_656_128,
    "ftt-256": 8_850_944,
    "ftt-512": 31_857_408,
    "ftt-512-2-blocks": 31_857_408 + 2 * (512 * 512 * 9 + 512),
    "ftt-paper": 8_260_864,
    "espcn": 724_064,
}


def count(module):
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize("name", TEXTURE_TRANSFERS)
def test_parameters(name):
    with torch.device("meta"):
        module = texture_transfer(name, 256)
        assert count(module) == COUNTS[name]
        assert count(ExtendedLevel(256, 256, module)) == COUNTS[name] + LEVEL_CONVS


def narrow(name):
    torch.manual_seed(0)
    return FTT(8, hidden_channels=6) if name == "ftt" else texture_transfer(name, 8)


@pytest.mark.parametrize("name", ["ftt", "ftt-paper", "espcn", *CHEAP])
@pytest.mark.parametrize("size", [(1, 1), (3, 5)])
def test_shapes_and_gradients(name, size):
    extension = ExtendedLevel(4, 8, narrow(name))
    height, width = size
    inputs = [torch.randn(2, 8, height, width), torch.randn(2, 8, 2 * height, 2 * width)]
    inputs.append(torch.randn(2, 4, 4 * height, 4 * width))
    outputs = extension(*inputs)
    assert list(outputs) == ["p3x", "p2x"]
    assert outputs["p3x"].shape == (2, 8, 2 * height, 2 * width)
    assert outputs["p2x"].shape == (2, 8, 4 * height, 4 * width)
    outputs["p2x"].square().sum().backward()
    assert all(p.grad is not None for p in extension.parameters())


def test_odd_fine_maps_are_fitted():
    """An image of 36 px has 5 cells of stride 8, but 9 of stride 4 and 18 of stride 2."""
    outputs = ExtendedLevel(4, 8, narrow("ftt"))(
        torch.randn(1, 8, 5, 5), torch.randn(1, 8, 9, 9), torch.randn(1, 4, 18, 18)
    )
    assert outputs["p3x"].shape[-2:] == (9, 9)
    assert outputs["p2x"].shape[-2:] == (18, 18)


def convolved(x, layer, padding=1):
    return nnf.conv2d(x, layer.weight, layer.bias, padding=padding)


def block(x, module):
    return torch.relu(x + convolved(torch.relu(convolved(x, module.first)), module.second))


def test_ftt_layer_by_layer():
    """Spec §1.2, written out."""
    module, coarse, fine = narrow("ftt"), torch.randn(1, 8, 3, 4), torch.randn(1, 8, 6, 8)
    head = nnf.leaky_relu(convolved(coarse, module.content.head), 0.1)
    content = head + block(head, module.content.body[0])
    content = nnf.leaky_relu(nnf.pixel_shuffle(convolved(content, module.upsampler.last), 2), 0.1)
    texture = nnf.leaky_relu(convolved(torch.cat((content, fine), 1), module.texture.head), 0.1)
    texture = block(block(texture, module.texture.body[0]), module.texture.body[1])
    end = convolved(nnf.leaky_relu(convolved(texture + content, module.tail[0]), 0.1), module.tail[2])
    expected = end + coarse.repeat_interleave(2, 2).repeat_interleave(2, 3)
    torch.testing.assert_close(module(coarse, fine), expected)


def test_paper_ftt_is_equation_3():
    module, coarse, fine = PaperFTT(4), torch.randn(1, 4, 3, 3), torch.randn(1, 4, 6, 6)
    content = block(block(coarse, module.content[0]), module.content[1])
    content = nnf.leaky_relu(nnf.pixel_shuffle(convolved(content, module.upsampler.last), 2), 0.1)
    texture = nnf.leaky_relu(convolved(torch.cat((fine, content), 1), module.texture.head), 0.1)
    texture = block(block(texture, module.texture.body[0]), module.texture.body[1])
    torch.testing.assert_close(module(coarse, fine), texture + content)


def test_unknown_name():
    with pytest.raises(ValueError, match="Did you mean 'espcn'"):
        texture_transfer("espnc", 8)


def test_options_are_those_of_the_class():
    assert texture_transfer("ftt", 8, hidden_channels=4).content.head.out_channels == 4
    assert len(texture_transfer("ftt-512", 8, hidden_channels=4, texture_blocks=5).texture.body) == 5
    with pytest.raises(ValueError, match=r"'espcn' has no option hidden_channels; it has: none"):
        texture_transfer("espcn", 8, hidden_channels=4)
