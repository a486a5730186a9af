import pytest
import torch
from torch import nn

from featlift.distillation.discriminator import PatchDiscriminator


@pytest.mark.parametrize(("last_kernel", "count"), [(3, 15_352_321), (1, 15_344_129)])
def test_parameters_at_256_channels(last_kernel, count):
    with torch.device("meta"):
        assert sum(parameter.numel() for parameter in PatchDiscriminator(256, last_kernel).parameters()) == count


@pytest.mark.parametrize("size", [(1, 1), (3, 7), (8, 6)])
def test_a_logit_for_every_cell(size):
    assert PatchDiscriminator(4)(torch.randn(2, 4, *size)).shape == (2, 1, *size)


def test_layers():
    """Four convolutions; batch norm and LeakyReLU 0.2 after each of the first three, nothing after the last."""
    discriminator = PatchDiscriminator(4)
    kinds = [type(layer) for layer in discriminator.body]
    assert kinds == [nn.Conv2d, nn.BatchNorm2d, nn.LeakyReLU] * 3
    assert [(layer.in_channels, layer.out_channels) for layer in discriminator.body[::3]] == [(4, 8), (8, 16), (16, 16)]
    assert {layer.negative_slope for layer in discriminator.body[2::3]} == {0.2}


@pytest.mark.parametrize(("last_kernel", "side"), [(3, 9), (1, 7)])
def test_receptive_field_of_a_logit(last_kernel, side):
    discriminator = PatchDiscriminator(4, last_kernel).eval()
    x = torch.randn(1, 4, 21, 21, requires_grad=True)
    discriminator(x)[0, 0, 10, 10].backward()
    rows = x.grad.abs().sum(dim=(0, 1, 3)).nonzero().flatten()
    assert (rows.min(), rows.max()) == (10 - side // 2, 10 + side // 2)


def test_initializations():
    """The published initialization gives logits of tens; the default gives small logits."""
    x = torch.randn(2, 64, 8, 8)
    assert PatchDiscriminator(64)(x).std() < 1
    assert PatchDiscriminator(64, init="official")(x).std() > 10


def test_both_initializations_have_zero_biases_and_kaiming_weights():
    for init in ("small", "official"):
        discriminator = PatchDiscriminator(16, init=init)
        convolutions = [module for module in discriminator.modules() if isinstance(module, nn.Conv2d)]
        assert not any(convolution.bias.any() for convolution in convolutions)
        assert discriminator.body[0].weight.std().item() == pytest.approx((2 / (32 * 9)) ** 0.5, rel=0.05)
    assert discriminator.last.weight.std().item() == pytest.approx((2 / 9) ** 0.5, rel=0.1)


def test_gradient_reaches_each_parameter():
    discriminator = PatchDiscriminator(4).eval()
    discriminator(torch.randn(2, 4, 6, 6)).square().sum().backward()
    assert all(parameter.grad.any() for parameter in discriminator.parameters())


def test_unknown_initialization():
    with pytest.raises(ValueError, match="'kaiming' of the discriminator; choose 'small' or 'official'"):
        PatchDiscriminator(4, init="kaiming")


def test_a_single_cell_is_an_error_in_training_only():
    with pytest.raises(ValueError, match=r"a single cell, \(1, 4, 1, 1\)"):
        PatchDiscriminator(4)(torch.randn(1, 4, 1, 1))
    assert PatchDiscriminator(4).eval()(torch.randn(1, 4, 1, 1)).shape == (1, 1, 1, 1)
