"""AFI-GAN's generator against its equations, with the concatenations split."""

import torch
import torch.nn.functional as nnf
from torch import Tensor

from featlift.interpolators.afi import AFI, ResidualDenseBlock


def activated(x: Tensor) -> Tensor:
    return torch.where(x > 0, x, 0.2 * x)


def dense(block: ResidualDenseBlock, x: Tensor) -> Tensor:
    """A convolution of a concatenation is the sum of the convolutions of its parts."""
    maps = [x]
    for convolution in (*block.grow, block.close):
        weights = convolution.weight.split([part.shape[1] for part in maps], dim=1)
        maps.append(sum(nnf.conv2d(part, weight, padding=1) for part, weight in zip(maps, weights, strict=True)))
        if convolution is not block.close:
            maps[-1] = activated(maps[-1])
    return x + 0.2 * maps[-1]


def test_dense_block():
    block = ResidualDenseBlock(6, growth_rate=3)
    x = torch.randn(2, 6, 4, 5)
    torch.testing.assert_close(block(x), dense(block, x), rtol=1e-5, atol=1e-5)


def test_the_whole_generator():
    module = AFI(6, num_blocks=2, growth_rate=3, init="mild")
    x = torch.randn(1, 6, 4, 5)
    trunk = y = activated(module.first(x))
    for block in module.blocks:
        y = dense(block, y)
    y = activated(module.middle(trunk + 0.2 * y))
    y = activated(nnf.conv_transpose2d(y, module.deconvolution.weight, stride=2, padding=2))
    expected = module.last(y) + nnf.interpolate(x, scale_factor=2, mode="bilinear")
    torch.testing.assert_close(module(x), expected, rtol=1e-5, atol=1e-5)


def test_parameters_of_a_dense_block():
    with torch.device("meta"):
        block = ResidualDenseBlock(256)
    assert sum(parameter.numel() for parameter in block.parameters()) == 1_234_944
    assert not [name for name, _ in block.named_parameters() if "bias" in name]


def test_receptive_field():
    """One cell of the input moves outputs at most 1 + 5·3 + 1 (at low resolution), 1 (deconvolution) and ½ (last) cells away."""
    module = AFI(4, num_blocks=3, growth_rate=2)
    x = torch.zeros(1, 4, 1, 61)
    changed = x.clone()
    changed[..., 30] = 1.0
    moved = (module(changed) - module(x)).abs().sum(dim=(0, 1, 2)).nonzero().flatten()
    assert moved.min() >= 2 * (30 - 19)
    assert moved.max() <= 2 * (30 + 19) + 1
