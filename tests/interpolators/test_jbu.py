"""FeatUp's joint bilateral upsampler against a loop over every output cell, at ratios from 2 to 16."""

import math

import pytest
import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

from featlift.interpolators.jbu import JBU, JBUStep


def step_literally(step: JBUStep, x: Tensor, guide: Tensor) -> Tensor:
    """One factor of 2 for ``x [C, H, W]`` and ``guide [C', 2H, 2W]``; border cells are repeated."""
    radius, keys = step.radius, step.project(guide[None])[0]
    large = nnf.interpolate(x[None], scale_factor=2, mode="bicubic")[0]
    height, width = guide.shape[-2:]
    shifts = [(i, j) for i in range(-radius, radius + 1) for j in range(-radius, radius + 1)]
    out = torch.zeros_like(large)
    for row in range(height):
        for column in range(width):
            near = [(min(max(row + i, 0), height - 1), min(max(column + j, 0), width - 1)) for i, j in shifts]
            logits = torch.stack([keys[:, i, j] @ keys[:, row, column] for i, j in near])
            similar = (step.log_temperature.exp() * logits).softmax(0)
            close = torch.tensor(
                [math.exp(-(i**2 + j**2) / radius**2 / (2 * step.sigma.item() ** 2)) for i, j in shifts]
            )
            weights = similar * close / (similar * close).sum()
            cell = torch.cat([weights, guide[:, row, column]])[None, :, None, None]
            weights = weights + 0.1 * step.correct(cell).flatten()
            out[:, row, column] = sum(w * large[:, i, j] for w, (i, j) in zip(weights, near, strict=True))
    return out


@torch.no_grad()
@pytest.mark.parametrize(("ratio", "size"), [(2, (3, 4)), (2, (1, 1)), (4, (2, 1))], ids=str)
def test_against_the_loop(ratio, size):
    module = JBU(4, guide_channels=3, ratio=ratio, key_channels=5, radius=2)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.3)
    x, guide = torch.randn(4, *size), torch.randn(3, ratio * size[0], ratio * size[1])
    y = x
    for number, step in enumerate(module.steps):
        cells = ratio // 2 ** (number + 1)
        small = guide.unflatten(1, (-1, cells)).unflatten(3, (-1, cells)).mean((2, 4))
        y = step_literally(step, y, small)
    expected = y + 0.1 * module.last(y[None])[0]
    torch.testing.assert_close(module(x[None], guide[None])[0], expected, rtol=1e-4, atol=1e-5)


def test_an_image_guides_features_of_a_sixteenth_of_its_resolution():
    """An image whose sides are no multiples of 16 is padded by its last row and column."""
    module = JBU(8, guide_channels=3, ratio=16)
    assert len(module.steps) == 4
    x, image = torch.randn(1, 8, 2, 3), torch.randn(1, 3, 30, 37)
    padded = nnf.pad(image, (0, 11, 0, 2), mode="replicate")
    y = module(x, image)
    assert y.shape == (1, 8, 32, 48)
    assert torch.equal(y, module(x, padded))
    with pytest.raises(ValueError, match=r"30x37 cells cannot be .* to 48x48; at most 15 cells are allowed"):
        module(torch.randn(1, 8, 3, 3), image)


def test_an_edge_of_the_guide_is_not_blurred():
    x = torch.cat([torch.zeros(1, 1, 6, 3), torch.ones(1, 1, 6, 3)], dim=-1)
    edge = torch.cat([torch.zeros(1, 1, 12, 6), torch.ones(1, 1, 12, 6)], dim=-1)
    module = JBU(1, key_channels=1)
    for parameter in [*module.last.parameters(), *module.steps[0].correct.parameters()]:
        nn.init.zeros_(parameter)
    module.steps[0].project = nn.Conv2d(1, 1, 1)
    module.steps[0].project.weight.data.fill_(20.0)
    module.steps[0].project.bias.data.fill_(-10.0)
    bicubic = nnf.interpolate(x, scale_factor=2, mode="bicubic")
    guided, blind = module(x, edge), module(x, torch.ones_like(edge))
    jump = [y[0, 0, 6, 6] - y[0, 0, 6, 5] for y in (guided, bicubic, blind)]
    assert jump[0] > jump[1] > jump[2]


def test_ratio_that_is_no_power_of_2():
    with pytest.raises(ValueError, match=r"ratio is 3; choose one of 2, 4, 8, 16"):
        JBU(8, ratio=3)
