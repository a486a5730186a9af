import torch

from featlift.image_sr.bicubic import upsample_bicubic
from featlift.image_sr.compact import CompactSR


def test_starts_as_bicubic():
    low = torch.rand(2, 3, 7, 9)
    torch.testing.assert_close(CompactSR(3)(low), upsample_bicubic(low, 3), rtol=0, atol=0)


def test_one_step_reduces_the_error():
    torch.manual_seed(0)
    network, high = CompactSR(2, depth=3, width=8), torch.rand(1, 3, 16, 16)
    low = torch.nn.functional.avg_pool2d(high, 2)
    optimizer = torch.optim.Adam(network.parameters(), 1e-2)
    before = (network(low) - high).abs().mean()
    before.backward()
    optimizer.step()
    assert (network(low) - high).abs().mean() < before


def test_one_convolution():
    assert CompactSR(2, depth=1)(torch.rand(1, 3, 5, 4)).shape == (1, 3, 10, 8)
