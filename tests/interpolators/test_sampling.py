"""Sampling between cells against a loop."""

import pytest
import torch

from featlift.interpolators.sampling import at_least_float32, input_cell_centers, offset_points, sample_points


@pytest.mark.parametrize("padding", ["zeros", "border"])
def test_against_the_loop(padding, bilinear):
    x, points = torch.randn(2, 4, 3, 5), 6 * torch.rand(2, 2, 2, 4, 3) - 1
    y = sample_points(x, points, padding)
    for b in range(2):
        for i in range(4):
            for j in range(3):
                for group, part in enumerate((slice(0, 2), slice(2, 4))):
                    column, row = (points[b, :, group, i, j] - 0.5).tolist()
                    expected = bilinear(x[b, part], row, column, padding)
                    torch.testing.assert_close(y[b, part, i, j], expected, rtol=1e-4, atol=1e-5)


def test_offsets_start_at_the_center_of_the_input_cell():
    offsets = torch.zeros(1, 2, 1, 4, 2, 3)
    offsets[:, 0, :, 1] = 0.25  # x of the upper right phase
    points = offset_points(offsets)
    assert points[0, 0, 0, 0].tolist() == [0.5, 0.75, 1.5, 1.75, 2.5, 2.75]
    assert points[0, 1, 0, :, 0].tolist() == [0.5, 0.5, 1.5, 1.5]
    assert torch.equal(input_cell_centers(2, 3, points)[:, 0, 3, 5], torch.tensor([2.5, 1.5]))


def test_coordinates_are_at_least_float32():
    assert at_least_float32(torch.zeros(1, dtype=torch.bfloat16)).dtype == torch.float32
    assert at_least_float32(torch.zeros(1, dtype=torch.float64)).dtype == torch.float64
    half = torch.zeros(1, 2, 1, 4, 1, 300, dtype=torch.bfloat16)
    assert offset_points(half)[0, 0, 0, 0, -1] == 299.5
