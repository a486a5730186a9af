"""CARAFE against a loop over every output cell."""

import torch
from torch import nn

from featlift.interpolators.carafe import CARAFE


def reassembled(module: CARAFE, x: torch.Tensor) -> torch.Tensor:
    """The paper's two steps for each output cell: predict 5x5 weights, average the neighborhood of its input cell."""
    batch, channels, height, width = x.shape
    side, radius = module.reassembly_kernel, module.reassembly_kernel // 2
    logits = module.encode(module.compress(x))
    out = torch.zeros(batch, channels, 2 * height, 2 * width)
    for b in range(batch):
        for row in range(2 * height):
            for column in range(2 * width):
                i, j, phase = row // 2, column // 2, 2 * (row % 2) + column % 2
                weights = logits[b, phase::4, i, j].exp()
                weights = weights / weights.sum()
                for tap in range(side**2):
                    y, z = i + tap // side - radius, j + tap % side - radius
                    if 0 <= y < height and 0 <= z < width:
                        out[b, :, row, column] += weights[tap] * x[b, :, y, z]
    return out


def test_against_the_loop():
    module = CARAFE(3, compressed_channels=4)
    nn.init.normal_(module.encode.weight, std=0.5)
    nn.init.normal_(module.encode.bias)
    x = torch.randn(2, 3, 3, 4)
    with torch.no_grad():
        torch.testing.assert_close(module(x), reassembled(module, x), rtol=1e-4, atol=1e-5)


def test_other_kernels():
    module = CARAFE(2, compressed_channels=2, encoder_kernel=1, reassembly_kernel=3)
    nn.init.normal_(module.encode.weight)
    x = torch.randn(1, 2, 2, 3)
    with torch.no_grad():
        torch.testing.assert_close(module(x), reassembled(module, x), rtol=1e-4, atol=1e-5)


def test_starts_as_the_mean_of_the_neighborhood():
    module = CARAFE(1)
    upsampled = module(torch.ones(1, 1, 7, 7))[0, 0]
    torch.testing.assert_close(upsampled[4:-4, 4:-4], torch.ones(6, 6), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(upsampled[0, 0], torch.tensor(9 / 25), rtol=1e-2, atol=1e-2)  # zeros beyond the border
