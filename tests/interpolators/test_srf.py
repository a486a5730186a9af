"""SRF-GAN's generator against its description, and its batch norms."""

import pytest
import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

from featlift.interpolators.srf import SRF, SRFBlock
from featlift.resolution import frozen_copy


def normed(x: Tensor, norm: nn.BatchNorm2d) -> Tensor:
    """Batch norm in training: over the batch and all cells, biased variance."""
    mean = x.mean(dim=(0, 2, 3), keepdim=True)
    variance = (x - mean).square().mean(dim=(0, 2, 3), keepdim=True)
    return (x - mean) / (variance + norm.eps).sqrt() * norm.weight.view(-1, 1, 1) + norm.bias.view(-1, 1, 1)


def activated(x: Tensor) -> Tensor:
    return torch.where(x > 0, x, 0.2 * x)


def test_residual_block():
    block = SRFBlock(4)
    x = torch.randn(2, 4, 5, 3)
    inside = activated(normed(block.conv1(x), block.norm1))
    torch.testing.assert_close(block(x), x + normed(block.conv2(inside), block.norm2), rtol=1e-4, atol=1e-5)


def test_the_whole_generator():
    module = SRF(4, num_blocks=2, norm="none")
    x = torch.randn(1, 4, 3, 5)
    y = activated(module.first(x))
    for block in module.blocks:
        y = y + block.conv2(activated(block.conv1(y)))
    y = activated(module.deconvolution(activated(module.middle(y))))
    expected = module.last(y) + nnf.interpolate(x, scale_factor=2, mode="bilinear")
    torch.testing.assert_close(module(x), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("norm", "cls"), [("batch", nn.BatchNorm2d), ("sync", nn.SyncBatchNorm), ("none", nn.Identity)]
)
def test_norms(norm, cls):
    block = SRFBlock(4, norm)
    assert type(block.norm1) is cls
    assert type(block.norm2) is cls


@pytest.mark.parametrize("last_kernel", [1, 3])
def test_last_kernel(last_kernel):
    module = SRF(4, num_blocks=1, last_kernel=last_kernel)
    assert module.last.kernel_size == (last_kernel, last_kernel)
    assert module(torch.randn(2, 4, 3, 3)).shape == (2, 4, 6, 6)


def test_frozen_keeps_the_statistics_of_batch_norm():
    """Spec check 10: a frozen generator does not change, even inside a detector in training."""
    module = frozen_copy(SRF(4, num_blocks=1))
    parent = nn.Sequential(module).train()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    parent(torch.randn(2, 4, 5, 5) + 3)
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    moving = SRF(4, num_blocks=1).train()
    mean = moving.blocks[0].norm1.running_mean.clone()
    moving(torch.randn(2, 4, 5, 5) + 3)
    assert not torch.equal(moving.blocks[0].norm1.running_mean, mean)


def test_unknown_norm():
    with pytest.raises(ValueError, match="'layer'; choose one of batch, sync, none"):
        SRFBlock(4, "layer")
