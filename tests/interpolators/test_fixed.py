"""Fixed interpolation against loops and explicit kernels."""

import pytest
import torch

from featlift.interpolators.fixed import (
    BicubicInterpolator,
    BilinearInterpolator,
    FixedInterpolator,
    NearestInterpolator,
)


def cubic(distance: float, a: float = -0.75) -> float:
    """Keys' kernel."""
    t = abs(distance)
    if t <= 1:
        return (a + 2) * t**3 - (a + 3) * t**2 + 1
    return a * t**3 - 5 * a * t**2 + 8 * a * t - 4 * a if t < 2 else 0.0


def along_a_row(row: list[float], kernel, reach: int) -> list[float]:
    """``row`` at twice the length: each output is the kernel-weighted mean of the inputs around it, ends repeated."""
    upsampled = []
    for position in range(2 * len(row)):
        center = (position + 0.5) / 2 - 0.5
        first = int(center // 1) - reach + 1
        taps = range(first, first + 2 * reach)
        upsampled.append(sum(kernel(center - tap) * row[min(max(tap, 0), len(row) - 1)] for tap in taps))
    return upsampled


def test_nearest_repeats_every_cell():
    x = torch.arange(6.0).view(1, 1, 2, 3)
    expected = [[x[0, 0, i // 2, j // 2].item() for j in range(6)] for i in range(4)]
    assert NearestInterpolator(1)(x)[0, 0].tolist() == expected


def test_bilinear_by_hand():
    x = torch.tensor([[[[0.0, 4.0]]]])
    assert BilinearInterpolator(1)(x)[0, 0].tolist() == [[0.0, 1.0, 3.0, 4.0]] * 2


@pytest.mark.parametrize(
    ("module", "kernel", "reach"),
    [(BilinearInterpolator(1), lambda d: 1 - abs(d), 1), (BicubicInterpolator(1), cubic, 2)],
    ids=["linear", "cubic"],
)
def test_against_the_kernel(module, kernel, reach):
    row = [3.0, -1.0, 4.0, 1.0, -5.0]
    x = torch.tensor(row).view(1, 1, 1, 5).expand(1, 1, 4, 5)
    upsampled = module(x)[0, 0]
    torch.testing.assert_close(upsampled, torch.tensor([along_a_row(row, kernel, reach)] * 8), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(module(x.mT)[0, 0], upsampled.T, rtol=1e-5, atol=1e-5)


def test_unknown_mode():
    with pytest.raises(ValueError, match="'area'; choose one of nearest, bilinear, bicubic"):
        FixedInterpolator(1, "area")


def test_the_mode_is_printed():
    assert repr(BicubicInterpolator(4)) == "BicubicInterpolator(bicubic)"
