import pytest
import torch
from torch import nn

from featlift.discriminators import PatchDiscriminator


@pytest.mark.parametrize(("end", "count"), [(3, 15_352_321), (1, 15_344_129)])
def test_parameters_at_256_channels(end, count):
    with torch.device("meta"):
        assert sum(parameter.numel() for parameter in PatchDiscriminator(256, end).parameters()) == count


@pytest.mark.parametrize("size", [(1, 1), (3, 7), (8, 6)])
def test_a_logit_for_every_cell(size):
    assert PatchDiscriminator(4)(torch.randn(2, 4, *size)).shape == (2, 1, *size)


def test_layers():
    """Four convolutions; batch norm and LeakyReLU 0.2 after each of the first three, nothing after the last."""
    critic = PatchDiscriminator(4)
    kinds = [type(layer) for layer in critic.body]
    assert kinds == [nn.Conv2d, nn.BatchNorm2d, nn.LeakyReLU] * 3
    assert [(layer.in_channels, layer.out_channels) for layer in critic.body[::3]] == [(4, 8), (8, 16), (16, 16)]
    assert {layer.negative_slope for layer in critic.body[2::3]} == {0.2}


@pytest.mark.parametrize(("end", "side"), [(3, 9), (1, 7)])
def test_each_logit_judges_a_patch(end, side):
    critic = PatchDiscriminator(4, end).eval()
    x = torch.randn(1, 4, 21, 21, requires_grad=True)
    critic(x)[0, 0, 10, 10].backward()
    rows = x.grad.abs().sum(dim=(0, 1, 3)).nonzero().flatten()
    assert (rows.min(), rows.max()) == (10 - side // 2, 10 + side // 2)


def test_starts():
    """The published start gives logits tens wide; ours are within a few units of "I do not know"."""
    x = torch.randn(2, 64, 8, 8)
    assert PatchDiscriminator(64)(x).std() < 1
    assert PatchDiscriminator(64, init="official")(x).std() > 10


def test_both_starts_have_zero_biases_and_kaiming_weights():
    for init in ("small", "official"):
        critic = PatchDiscriminator(16, init=init)
        convolutions = [module for module in critic.modules() if isinstance(module, nn.Conv2d)]
        assert not any(convolution.bias.any() for convolution in convolutions)
        assert critic.body[0].weight.std().item() == pytest.approx((2 / (32 * 9)) ** 0.5, rel=0.05)
    assert critic.last.weight.std().item() == pytest.approx((2 / 9) ** 0.5, rel=0.1)


def test_gradient_reaches_each_parameter():
    critic = PatchDiscriminator(4).eval()
    critic(torch.randn(2, 4, 6, 6)).square().sum().backward()
    assert all(parameter.grad.any() for parameter in critic.parameters())


def test_unknown_start():
    with pytest.raises(ValueError, match="'kaiming' of the critic; choose 'small' or 'official'"):
        PatchDiscriminator(4, init="kaiming")


def test_a_single_cell_is_refused_in_training_alone():
    with pytest.raises(ValueError, match=r"a single cell, \(1, 4, 1, 1\)"):
        PatchDiscriminator(4)(torch.randn(1, 4, 1, 1))
    assert PatchDiscriminator(4).eval()(torch.randn(1, 4, 1, 1)).shape == (1, 1, 1, 1)
