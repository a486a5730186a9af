"""Winograd convolution compared with PyTorch's convolution."""

import pytest
import torch
from torch import nn

from featlift.deployment.winograd import WINOGRAD_F2, WINOGRAD_F4, WinogradConv2d


@pytest.mark.parametrize("size", [(1, 1), (3, 9), (4, 8), (6, 5)], ids=str)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("transforms", [WINOGRAD_F2, WINOGRAD_F4], ids=["2x2", "4x4"])
def test_it_equals_the_convolution(size, bias, transforms):
    plain = nn.Conv2d(3, 5, 3, padding=1, bias=bias).double().requires_grad_(False)
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    for input_map in (x, x.to(memory_format=torch.channels_last)):
        torch.testing.assert_close(WinogradConv2d(plain, transforms)(input_map), plain(input_map))


@pytest.mark.parametrize(("transforms", "tolerance"), [(WINOGRAD_F2, 1e-6), (WINOGRAD_F4, 1e-5)], ids=["2x2", "4x4"])
def test_rounding_in_single_precision(transforms, tolerance):
    plain = nn.Conv2d(64, 64, 3, padding=1).requires_grad_(False)
    x = torch.randn(1, 64, 16, 16)
    exact = plain.double()(x.double())
    y = WinogradConv2d(plain.float(), transforms)(x)
    assert (y - exact).norm() / exact.norm() < tolerance


@pytest.mark.parametrize(
    "options", [{"stride": 2}, {"dilation": 2}, {"groups": 2}, {"padding_mode": "reflect"}, {"padding": 0}]
)
def test_other_convolutions_are_rejected(options):
    with pytest.raises(ValueError, match="Only 3x3 convolutions of stride 1 and padding 1"):
        WinogradConv2d(nn.Conv2d(4, 4, 3, **{"padding": 1} | options))
