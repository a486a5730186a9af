"""DySample against a loop over every output cell."""

import math

import pytest
import torch
from torch import Tensor, nn

from featlift.interpolators.dysample import DySample
from featlift.interpolators.fixed import BilinearInterpolator


def bilinear_sample(x: Tensor, row: float, column: float) -> Tensor:
    """``x [C, H, W]`` at a point between cell centers (bilinear); the border is repeated."""
    height, width = x.shape[-2:]
    row, column = min(max(row, 0.0), height - 1.0), min(max(column, 0.0), width - 1.0)
    top, left = math.floor(row), math.floor(column)
    value = torch.zeros(x.shape[0])
    for i in (top, top + 1):
        for j in (left, left + 1):
            share = (1 - abs(row - i)) * (1 - abs(column - j))
            if share > 0:
                value += share * x[:, i, j]
    return value


def sampled(module: DySample, x: Tensor) -> Tensor:
    """Offsets of phase p and group g: channels ``g·4 + p`` (x) and ``4·groups + g·4 + p`` (y) of the linear layer."""
    batch, channels, height, width = x.shape
    offsets = module.offset(x)
    reach = torch.full_like(offsets, 0.25) if module.scope is None else 0.5 * module.scope(x).sigmoid()
    offsets, share = offsets * reach, channels // module.groups
    out = torch.zeros(batch, channels, 2 * height, 2 * width)
    for b in range(batch):
        for row in range(2 * height):
            for column in range(2 * width):
                i, j, phase = row // 2, column // 2, 2 * (row % 2) + column % 2
                for group in range(module.groups):
                    along, down = (
                        offsets[b, group * 4 + phase, i, j],
                        offsets[b, (module.groups + group) * 4 + phase, i, j],
                    )
                    at = (i + (-0.25, 0.25)[row % 2] + down.item(), j + (-0.25, 0.25)[column % 2] + along.item())
                    part = slice(group * share, (group + 1) * share)
                    out[b, part, row, column] = bilinear_sample(x[b, part], *at)
    return out


@pytest.mark.parametrize("dyscope", [False, True])
@pytest.mark.parametrize("groups", [1, 2])
def test_against_the_loop(groups, dyscope):
    module = DySample(4, groups, dyscope)
    for parameter in module.parameters():
        nn.init.normal_(parameter)
    x = torch.randn(2, 4, 3, 5)
    with torch.no_grad():
        torch.testing.assert_close(module(x), sampled(module, x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dyscope", [False, True])
def test_starts_as_bilinear(dyscope):
    x = torch.randn(1, 8, 6, 5)
    bilinear = BilinearInterpolator(8)(x)
    error = (DySample(8, dyscope=dyscope)(x) - bilinear).norm() / bilinear.norm()
    assert error < 2e-3


def test_groups_must_divide_the_channels():
    with pytest.raises(ValueError, match=r"6 channels cannot be split into 4 groups"):
        DySample(6)
