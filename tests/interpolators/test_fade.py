"""FADE against a loop over every output cell."""

import pytest
import torch
from torch import Tensor, nn

from featlift.interpolators.fade import FADE


def convolved(weight: Tensor, x: Tensor, row: int, column: int) -> Tensor:
    """3x3 convolution of ``x [C, H, W]`` at one cell, zero beyond the border."""
    value = torch.zeros(weight.shape[0])
    for i in range(3):
        for j in range(3):
            y, z = row + i - 1, column + j - 1
            if 0 <= y < x.shape[-2] and 0 <= z < x.shape[-1]:
                value += weight[:, :, i, j] @ x[:, y, z]
    return value


@torch.no_grad()
@pytest.mark.parametrize("gated", [True, False])
def test_against_the_loop(gated, filtered):
    module = FADE(4, compressed_channels=3, kernel=3, gated=gated)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.4)
    x, guide = torch.randn(2, 4, 3, 2), torch.randn(2, 4, 6, 4)
    small, fine = module.compress(x), module.compress_guide(guide)
    for b in range(2):
        logits, gate = torch.zeros(9, 6, 4), torch.zeros(6, 4)
        for row in range(6):
            for column in range(4):
                shared = convolved(module.encode.weight, fine[b], row, column)
                shared += convolved(module.encode.weight, small[b], row // 2, column // 2)
                logits[:, row, column] = shared + 2 * module.encode.bias  # in both convolutions
                if module.gate is not None:
                    coarse = x[b, :, row // 2, column // 2]
                    gate[row, column] = (module.gate.weight.flatten() @ coarse + module.gate.bias).sigmoid()
        weights = logits.exp() / logits.exp().sum(0)
        expected = gate * guide[b] + (1 - gate) * filtered(x[b], weights, 2)
        torch.testing.assert_close(module(x, guide)[b], expected, rtol=1e-4, atol=1e-5)
