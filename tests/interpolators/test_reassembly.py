"""Adaptive filters against loops."""

import pytest
import torch

from featlift.interpolators.reassembly import (
    filter_cells,
    merge_phases,
    reassemble,
    shifted_maps,
    similarities,
    split_phases,
)


@pytest.mark.parametrize("kernel", [1, 3, 5])
def test_filters_against_the_loop(kernel, filtered):
    x, weights = torch.randn(2, 3, 4, 2), torch.randn(2, kernel**2, 4, 2)
    for b in range(2):
        torch.testing.assert_close(filter_cells(x, weights)[b], filtered(x[b], weights[b]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kernel", [1, 3, 5])
def test_reassembly_against_the_loop(kernel, filtered):
    x, weights = torch.randn(2, 3, 4, 2), torch.randn(2, kernel**2, 8, 4)
    for b in range(2):
        torch.testing.assert_close(reassemble(x, weights)[b], filtered(x[b], weights[b], 2), rtol=1e-4, atol=1e-5)


def test_similarities_against_the_loop():
    x, queries = torch.randn(1, 3, 2, 3), torch.randn(1, 3, 4, 6)
    y = similarities(x, queries, 3)
    for row in range(4):
        for column in range(6):
            for tap in range(9):
                i, j = row // 2 + tap // 3 - 1, column // 2 + tap % 3 - 1
                inside = 0 <= i < 2 and 0 <= j < 3
                expected = (x[0, :, i, j] * queries[0, :, row, column]).sum() if inside else torch.tensor(0.0)
                torch.testing.assert_close(y[0, tap, row, column], expected)


def test_border_padding_repeats_the_last_cells():
    x = torch.tensor([[[[1.0, 2.0]]]])
    assert [m.flatten().tolist() for m in shifted_maps(x, 3, padding="border")] == [[1, 1], [1, 2], [2, 2]] * 3
    assert [m.flatten().tolist() for m in shifted_maps(x, 3)][3:6] == [[0, 1], [1, 2], [2, 0]]


def test_phases_are_the_output_cells_row_by_row():
    x = torch.arange(8.0).view(1, 1, 2, 4)
    assert split_phases(x)[0, 0, :, 0, 1].tolist() == [2, 3, 6, 7]
    assert torch.equal(merge_phases(split_phases(x)), x)


def test_gradients():
    x, weights = (
        torch.randn(1, 2, 2, 3, dtype=torch.float64, requires_grad=True),
        torch.randn(1, 9, 4, 6, dtype=torch.float64, requires_grad=True),
    )
    assert torch.autograd.gradcheck(reassemble, (x, weights))
