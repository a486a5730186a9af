"""SAPA and its dynamic form against loops over every output cell."""

import pytest
import torch
from torch import Tensor, nn

from featlift.interpolators.sapa import SAPA, DynamicSAPA


def randomize(module: nn.Module) -> None:
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.4)


def layer_norm(norm: nn.Module, x: Tensor) -> Tensor:
    """Normalization of the channels ``[C]`` of one cell."""
    return (x - x.mean()) / (x.var(correction=0) + norm.eps).sqrt() * norm.weight + norm.bias


def linear(convolution: nn.Conv2d, x: Tensor) -> Tensor:
    return convolution.weight[:, :, 0, 0] @ x + convolution.bias


@torch.no_grad()
def test_sapa_against_the_loop():
    module = SAPA(4, embedding_channels=3, kernel=3)
    randomize(module)
    x, guide = torch.randn(2, 4, 3, 2), torch.randn(2, 4, 6, 4)
    expected = torch.zeros(2, 4, 6, 4)
    for b in range(2):
        for row in range(6):
            for column in range(4):
                query = linear(module.query, layer_norm(module.norm_guide, guide[b, :, row, column]))
                logits, values = torch.zeros(9), torch.zeros(9, 4)
                for tap in range(9):
                    i, j = row // 2 + tap // 3 - 1, column // 2 + tap % 3 - 1
                    if 0 <= i < 3 and 0 <= j < 2:
                        logits[tap] = query @ linear(module.key, layer_norm(module.norm, x[b, :, i, j]))
                        values[tap] = x[b, :, i, j]
                expected[b, :, row, column] = (logits.exp() / logits.exp().sum()) @ values
    torch.testing.assert_close(module(x, guide), expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_dynamic_sapa_against_the_loop(bilinear):
    groups, points, width = 2, 3, 5
    module = DynamicSAPA(4, embedding_channels=width, points=points, groups=groups)
    randomize(module)
    x, guide = torch.randn(2, 4, 3, 2), torch.randn(2, 4, 6, 4)
    keys, offsets = module.key(x), module.offset(x)
    expected = torch.zeros(2, 4, 6, 4)
    for b in range(2):
        for row in range(6):
            for column in range(4):
                i, j, phase = row // 2, column // 2, 2 * (row % 2) + column % 2
                for group in range(groups):
                    part = slice(group * width, (group + 1) * width)
                    query = linear(module.query, guide[b, :, row, column])[part]
                    logits, values = torch.zeros(points), torch.zeros(points, 2)
                    for point in range(points):
                        shift = [offsets[b, 4 * (2 * (group * points + point) + axis) + phase, i, j] for axis in (0, 1)]
                        at = (i + shift[1].item(), j + shift[0].item())
                        logits[point] = query @ bilinear(keys[b, part], *at, "zeros")
                        values[point] = bilinear(x[b, 2 * group : 2 * group + 2], *at, "zeros")
                    expected[b, 2 * group : 2 * group + 2, row, column] = logits.softmax(0) @ values
    torch.testing.assert_close(module(x, guide), expected, rtol=1e-4, atol=1e-5)


def test_a_guide_like_one_side_of_an_edge_takes_the_values_of_that_side():
    """Two halves with different keys: the fine map decides to which half a cell on the edge belongs."""
    module = SAPA(2, embedding_channels=2, kernel=3)
    for convolution in (module.key, module.query):
        convolution.weight.data = 10 * torch.eye(2).view(2, 2, 1, 1)
    x = torch.zeros(1, 2, 3, 4)
    x[:, 0, :, :2], x[:, 1, :, 2:] = 1, 1
    guide = torch.zeros(1, 2, 6, 8)
    guide[:, 0, :, :5], guide[:, 1, :, 5:] = 1, 1  # the edge is one fine cell further to the right
    y = module(x, guide)
    torch.testing.assert_close(y[0, 0, 2], torch.tensor([1.0] * 5 + [0.0] * 3), rtol=0, atol=1e-3)


def test_groups_must_divide_the_channels():
    with pytest.raises(ValueError, match=r"6 channels cannot be split into 4 groups"):
        DynamicSAPA(6)
