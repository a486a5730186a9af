"""LDA-AQU against a loop over every output cell, with both alignments."""

import pytest
import torch
from torch import nn

from featlift.interpolators.fixed import BilinearInterpolator
from featlift.interpolators.lda_aqu import LDAAQU


def input_position(cell: float, cells: int, align_corners: bool) -> float:
    """Position of an output cell in the input, 0 is the center of its first cell."""
    return cell * (cells - 1) / (2 * cells - 1) if align_corners else (cell + 0.5) / 2 - 0.5


@torch.no_grad()
@pytest.mark.parametrize("size", [(3, 2), (1, 3)], ids=str)
@pytest.mark.parametrize("align_corners", [True, False])
def test_against_the_loop(align_corners, size, bilinear):
    groups, (height, width) = 2, size
    module = LDAAQU(8, reduction=2, groups=groups, max_offset=2.0, align_corners=align_corners)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.4)
    x = torch.randn(2, 8, height, width)
    normalized = module.norm(x)
    low_queries, keys = module.query(normalized), module.key(normalized)
    queries = torch.zeros(2, 4, 2 * height, 2 * width)
    cells = [(b, i, j) for b in range(2) for i in range(2 * height) for j in range(2 * width)]
    for b, i, j in cells:
        at = (input_position(i, height, align_corners), input_position(j, width, align_corners))
        queries[b, :, i, j] = bilinear(low_queries[b], *at, "border")
    offsets = 2.0 * torch.stack([module.offset(part) for part in queries.chunk(groups, dim=1)], dim=1).tanh()
    expected = torch.zeros(2, 8, 2 * height, 2 * width)
    for b, i, j in cells:
        near_keys, near_values = torch.zeros(9, 4), torch.zeros(9, 8)
        for tap in range(9):
            for group in range(groups):
                down, along = offsets[b, group, 2 * tap : 2 * tap + 2, i, j].tolist()
                at = (
                    input_position(i + down + tap // 3 - 1, height, align_corners),
                    input_position(j + along + tap % 3 - 1, width, align_corners),
                )
                for near, maps in ((near_keys, keys[b]), (near_values, x[b])):
                    share = maps.shape[0] // groups
                    part = slice(group * share, (group + 1) * share)
                    near[tap, part] = bilinear(maps[part], *at, "zeros")
        logits = (near_keys + module.position_bias) @ queries[b, :, i, j] / 4**0.5
        expected[b, :, i, j] = logits.softmax(0) @ near_values
    torch.testing.assert_close(module(x), expected, rtol=1e-4, atol=1e-4)


def test_starts_with_the_neighbors_of_each_output_cell():
    """Equal keys: the mean of the bilinear map's 3x3 neighborhood."""
    module = LDAAQU(8)
    nn.init.zeros_(module.key.weight)
    nn.init.zeros_(module.position_bias)
    x = torch.randn(1, 8, 6, 7)
    mean = nn.functional.avg_pool2d(BilinearInterpolator(8)(x), 3, 1, 1)
    torch.testing.assert_close(module(x)[..., 2:-2, 2:-2], mean[..., 2:-2, 2:-2])


def test_channels_that_do_not_fit():
    with pytest.raises(ValueError, match=r"12 channels cannot be reduced by 4 and split into 2 groups"):
        LDAAQU(12)
