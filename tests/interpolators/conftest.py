"""Literal versions of operations that several upsampling papers share, one output value at a time."""

import math

import pytest
import torch
from torch import Tensor


def sample_bilinear(x: Tensor, row: float, column: float, padding: str) -> Tensor:
    """``x [C, H, W]`` at a point, in cells, 0 is the center of the first; beyond the border zero or the nearest cell."""
    height, width = x.shape[-2:]
    if padding == "border":
        row, column = min(max(row, 0.0), height - 1.0), min(max(column, 0.0), width - 1.0)
    value = torch.zeros(x.shape[0], dtype=x.dtype)
    for i in (math.floor(row), math.floor(row) + 1):
        for j in (math.floor(column), math.floor(column) + 1):
            share = (1 - abs(row - i)) * (1 - abs(column - j))
            if share > 0 and 0 <= i < height and 0 <= j < width:
                value += share * x[:, i, j]
    return value


def filter_literally(x: Tensor, weights: Tensor, ratio: int = 1) -> Tensor:
    """``x [C, H, W]`` and ``weights [kernel², ratio · H, ratio · W]``: weighted sums of neighborhoods, zero beyond the border."""
    side, (height, width) = round(weights.shape[0] ** 0.5), weights.shape[-2:]
    out = torch.zeros(x.shape[0], height, width, dtype=x.dtype)
    for row in range(height):
        for column in range(width):
            for tap in range(side**2):
                i, j = row // ratio + tap // side - side // 2, column // ratio + tap % side - side // 2
                if 0 <= i < x.shape[-2] and 0 <= j < x.shape[-1]:
                    out[:, row, column] += weights[tap, row, column] * x[:, i, j]
    return out


@pytest.fixture
def bilinear():
    return sample_bilinear


@pytest.fixture
def filtered():
    return filter_literally
