"""The learned baselines against loops over their taps."""

import pytest
import torch
import torch.nn.functional as nnf
from torch import nn

from featlift.interpolators.conv import Deconvolution, PixelShuffleConv, ResizeConv


def test_deconvolution_scatters_every_cell_with_36_taps():
    module = Deconvolution(2)
    x = torch.randn(1, 2, 3, 4)
    weight = module.deconvolution.weight  # in, out, 6, 6
    canvas = torch.zeros(1, 2, 2 * 3 + 4, 2 * 4 + 4)  # a margin of two cells all around
    for i in range(3):
        for j in range(4):
            canvas[0, :, 2 * i : 2 * i + 6, 2 * j : 2 * j + 6] += torch.einsum("c,cokl->okl", x[0, :, i, j], weight)
    upsampled = canvas[..., 2:-2, 2:-2]
    expected = module.last(torch.where(upsampled > 0, upsampled, 0.2 * upsampled))
    torch.testing.assert_close(module(x), expected, rtol=1e-4, atol=1e-5)


def test_deconvolution_treats_all_phases_equally():
    """Every inner output cell gets 3x3 weights: a constant map stays constant."""
    module = Deconvolution(1)
    nn.init.ones_(module.deconvolution.weight)
    upsampled = module.deconvolution(torch.ones(1, 1, 5, 5))
    assert upsampled[0, 0, 2:-2, 2:-2].unique().tolist() == [9.0]


def test_pixel_shuffle_cell_by_cell():
    module = PixelShuffleConv(2)
    x = torch.randn(1, 2, 3, 2)
    convolved, upsampled = module.last(x)[0], module(x)[0]
    for c in range(2):
        for i in range(6):
            for j in range(4):
                phase = 2 * (i % 2) + j % 2
                assert upsampled[c, i, j] == convolved[4 * c + phase, i // 2, j // 2]


@pytest.mark.parametrize("mode", ["nearest", "bilinear", "bicubic"])
def test_five_convolutions_at_twice_the_size(mode):
    module = ResizeConv(4, mode).eval()
    convolutions = [m for m in module.modules() if isinstance(m, nn.Conv2d)]
    norms = [m for m in module.modules() if isinstance(m, nn.BatchNorm2d)]
    for norm in norms:
        nn.init.normal_(norm.running_mean)
        nn.init.uniform_(norm.running_var, 0.5, 2.0)
        nn.init.normal_(norm.bias)
    x = torch.randn(1, 4, 3, 5)
    y = nnf.interpolate(x, size=(6, 10), mode=mode)
    for convolution, norm in zip(convolutions[:4], norms, strict=True):
        scale = norm.weight / (norm.running_var + norm.eps).sqrt()
        y = convolution(y) * scale.view(-1, 1, 1) + (norm.bias - norm.running_mean * scale).view(-1, 1, 1)
        y = torch.where(y > 0, y, 0.2 * y)
    torch.testing.assert_close(module(x), convolutions[4](y), rtol=1e-4, atol=1e-5)
