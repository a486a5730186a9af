"""Table 3 of FSR-GAN and the interface of descriptor discriminators."""

import pytest
import torch

from featlift.retrieval.discriminator import DescriptorDiscriminator, MLPDiscriminator


def test_the_papers_discriminator_has_its_parameters_and_maps():
    discriminator, sizes = DescriptorDiscriminator(4096), []
    for convolution in discriminator.convolutions:
        convolution.register_forward_hook(lambda m, i, o: sizes.append(tuple(o.shape[1:])))
    assert discriminator(torch.rand(3, 4096)).shape == (3,)
    assert sizes == [(8, 32, 32), (16, 16, 16), (32, 8, 8), (64, 8, 8)]
    assert sum(p.numel() for p in discriminator.parameters()) == 30_657


@pytest.mark.parametrize("make", [lambda: DescriptorDiscriminator(64), lambda: MLPDiscriminator(50, 16)])
def test_one_score_each_unbounded_and_batched_equals_single(make):
    torch.manual_seed(0)
    discriminator = make()
    x = torch.randn(6, 64 if isinstance(discriminator, DescriptorDiscriminator) else 50)
    torch.testing.assert_close(discriminator(x), torch.cat([discriminator(row[None]) for row in x]))
    with torch.no_grad():
        for p in discriminator.parameters():
            p.mul_(30)
    assert discriminator(x).abs().max() > 1  # no squashing at the end
    discriminator(x).sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in discriminator.parameters())
