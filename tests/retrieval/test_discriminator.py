"""Table 3 of FSR-GAN and the contract of a descriptor's critic."""

import pytest
import torch

from featlift.retrieval.discriminator import DescriptorDiscriminator, MLPDiscriminator


def test_the_papers_critic_has_its_parameters_and_maps():
    critic, sizes = DescriptorDiscriminator(4096), []
    for convolution in critic.convolutions:
        convolution.register_forward_hook(lambda m, i, o: sizes.append(tuple(o.shape[1:])))
    assert critic(torch.rand(3, 4096)).shape == (3,)
    assert sizes == [(8, 32, 32), (16, 16, 16), (32, 8, 8), (64, 8, 8)]
    assert sum(p.numel() for p in critic.parameters()) == 30_657


@pytest.mark.parametrize("make", [lambda: DescriptorDiscriminator(64), lambda: MLPDiscriminator(50, 16)])
def test_one_score_each_unbounded_and_batched_equals_single(make):
    torch.manual_seed(0)
    critic = make()
    x = torch.randn(6, 64 if isinstance(critic, DescriptorDiscriminator) else 50)
    torch.testing.assert_close(critic(x), torch.cat([critic(row[None]) for row in x]))
    with torch.no_grad():
        for p in critic.parameters():
            p.mul_(30)
    assert critic(x).abs().max() > 1  # no squashing at the end
    critic(x).sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in critic.parameters())
