"""Initialization of learned interpolators, and their shortcuts."""

import math

import pytest
import torch
from torch import nn

from featlift.interpolators import interpolator
from featlift.interpolators.afi import AFI
from featlift.interpolators.fixed import FixedInterpolator
from featlift.interpolators.initialization import Shortcut, init_weights

WITH_SHORTCUT = ("afi", "srf", "afi-rb", "light", "light-agnostic")
WITHOUT_SHORTCUT = ("nearest-5conv", "bilinear-5conv", "bicubic-5conv", "deconv", "pixel-shuffle")


@pytest.mark.parametrize("mode", ["nearest", "bilinear", "bicubic"])
@pytest.mark.parametrize("name", WITH_SHORTCUT)
def test_zero_adds_exactly_nothing(name, mode):
    x = torch.randn(2, 8, 5, 3)
    module = interpolator(name, 8, init="zero", shortcut=mode)
    assert torch.equal(module(x), FixedInterpolator(8, mode)(x))


@pytest.mark.parametrize("name", WITHOUT_SHORTCUT)
def test_zero_without_a_shortcut_is_zero(name):
    assert not interpolator(name, 8, init="zero")(torch.randn(1, 8, 3, 3)).any()


@pytest.mark.parametrize("name", WITH_SHORTCUT)
def test_zero_trains_from_the_first_step(name):
    """The last layer has a gradient at once, and all others after it has moved."""
    module = interpolator(name, 8, init="zero").eval()
    x, target = torch.randn(1, 8, 4, 4), torch.randn(1, 8, 8, 8)
    for _ in range(2):
        module.zero_grad()
        (module(x) - target).square().mean().backward()
        with torch.no_grad():
            for parameter in module.parameters():
                parameter -= 0.1 * parameter.grad
    assert all(parameter.grad.any() for parameter in module.parameters())


def test_official_afi_is_bilinear_within_a_thousandth():
    x = torch.randn(1, 64, 9, 7)
    bilinear = FixedInterpolator(64, "bilinear")(x)
    official, mild = AFI(64, init="official")(x), AFI(64)(x)
    assert 0 < (official - bilinear).norm() / bilinear.norm() < 1e-3
    assert (mild - bilinear).norm() > 10 * (official - bilinear).norm()


def spread(convolution: nn.Module) -> float:
    """The weights' deviation in units of Kaiming's √(2 / fan in)."""
    weight: torch.Tensor = convolution.weight
    return (weight.std() / math.sqrt(2 / weight[0].numel())).item()


@pytest.mark.parametrize(
    ("init", "first", "inside", "last"), [("official", 0.1, 0.1, 0.1), ("mild", 1.0, 0.1, 0.1), ("zero", 1.0, 0.1, 0.0)]
)
def test_spread_of_the_weights(init, first, inside, last):
    module = AFI(32, num_blocks=1, init=init)
    assert spread(module.first) == pytest.approx(first, rel=0.05)
    assert spread(module.blocks[0].close) == pytest.approx(inside, rel=0.05)
    assert spread(module.last) == pytest.approx(last, rel=0.05)
    assert spread(module.deconvolution) == pytest.approx(first, rel=0.05)
    assert not module.first.bias.any()


def test_shortcut_none_returns_the_branch():
    x, branch = torch.randn(1, 2, 3, 3), torch.randn(1, 2, 6, 6)
    assert torch.equal(Shortcut(2, "none")(x, branch), branch)
    assert torch.equal(Shortcut(2, "nearest")(x, branch), branch + x.repeat_interleave(2, 2).repeat_interleave(2, 3))


def test_unknown_initialization_and_shortcut():
    with pytest.raises(ValueError, match="'xavier'; choose one of mild, official, zero"):
        init_weights(nn.Conv2d(2, 2, 1), "xavier", nn.Conv2d(2, 2, 1))
    with pytest.raises(ValueError, match="'linear'; choose one of nearest, bilinear, bicubic, none"):
        Shortcut(2, "linear")
