"""The guided upsampler: its interpolator until trained, guides of two sizes, any size of the map."""

import pytest
import torch
import torch.nn.functional as nnf

from featlift.upgrading.extended_upsampler import GuidedUpsampler


@pytest.mark.parametrize("size", [(10, 14), (9, 13)])
def test_untrained_it_is_its_interpolator(size):
    x, guide, fine = torch.rand(2, 6, 5, 7), torch.rand(2, 3, *size), torch.rand(2, 4, 2 * size[0], 2 * size[1] - 1)
    module = GuidedUpsampler(6, [4, 3], "bilinear", width=8, num_blocks=2)
    expected = nnf.interpolate(x, scale_factor=2, mode="bilinear")[..., : size[0], : size[1]]
    assert torch.equal(module(x, [fine, guide], size), expected)


def test_every_parameter_learns_and_every_guide_is_read():
    torch.manual_seed(0)
    module = GuidedUpsampler(6, [4, 3], width=8, num_blocks=2)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    guides = [torch.rand(1, 4, 20, 28, requires_grad=True), torch.rand(1, 3, 10, 14, requires_grad=True)]
    module(torch.rand(1, 6, 5, 7), guides, (10, 14)).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in module.parameters())
    assert all(guide.grad.abs().min() > 0 for guide in guides)


def test_without_blocks_it_has_only_the_interpolator():
    module = GuidedUpsampler(6, [4], "nearest", num_blocks=0)
    assert not list(module.parameters())
    assert torch.equal(module(x := torch.rand(1, 6, 5, 7), [], (10, 14)), nnf.interpolate(x, scale_factor=2.0))
