"""Linear baselines compared with explicit algebra."""

import pytest
import torch
from linear_generators import PerRatioGenerator, fit_ridge


def test_ridge_finds_a_linear_map_exactly():
    torch.manual_seed(0)
    low, slope, shift = torch.randn(200, 6), torch.randn(6, 6), torch.randn(6)
    generator = fit_ridge(low, low @ slope + shift, alpha=1e-6)
    x = torch.randn(5, 6)
    torch.testing.assert_close(generator(x), x @ slope + shift, rtol=1e-4, atol=1e-4)


def test_ridge_is_the_minimum():
    """Changing any parameter of the solution does not lower error + alpha·‖A‖²."""
    torch.manual_seed(0)
    low, high, alpha = torch.randn(20, 3).double(), torch.randn(20, 3).double(), 2.0
    generator = fit_ridge(low, high, alpha)

    def loss():
        return ((generator(low) - high).square().sum() + alpha * generator.slope.square().sum()).item()

    best = loss()
    for buffer in (generator.slope.view(-1), generator.shift):
        for i in range(len(buffer)):
            for step in (-1e-3, 1e-3):
                buffer[i] += step
                assert loss() > best
                buffer[i] -= step


def test_strong_ridge_only_shifts_by_the_mean():
    low, high = torch.rand(30, 4), torch.rand(30, 4)
    generator = fit_ridge(low, high, alpha=1e12)
    torch.testing.assert_close(generator(low), low + (high - low).mean(0))


def test_ridge_errors():
    with pytest.raises(ValueError, match="equal shape"):
        fit_ridge(torch.rand(3, 2), torch.rand(4, 2))
    with pytest.raises(ValueError, match="positive"):
        fit_ridge(torch.rand(3, 2), torch.rand(3, 2), alpha=0)


class Add(torch.nn.Module):
    def __init__(self, amount):
        super().__init__()
        self.amount = amount

    def forward(self, x, ratio=None):
        return x + self.amount


def test_per_ratio_takes_the_nearest_on_a_logarithmic_scale():
    model = PerRatioGenerator([2.0, 8.0], [Add(2), Add(8)])
    ratio = torch.tensor([1.0, 1.3, 1.5, 2.0, 3.9, 4.1, 8.0, 20.0])
    out = model(torch.zeros(8, 1), ratio)
    assert out[:, 0].tolist() == [0, 0, 2, 2, 2, 8, 8, 8]
    with pytest.raises(ValueError, match="ratio"):
        model(torch.zeros(8, 1))
