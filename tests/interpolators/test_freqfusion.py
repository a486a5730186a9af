"""FreqFusion against its formulas, cell by cell, and in a pyramid against the paper's fusion."""

import pytest
import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

from featlift.interpolators.freqfusion import FreqFusion, low_pass_weights
from featlift.pyramids import FPN

HAMMING = {3: [0.08, 1.0, 0.08], 5: [0.08, 0.54, 1.0, 0.54, 0.08]}


def module() -> FreqFusion:
    torch.manual_seed(1)
    freqfusion = FreqFusion(4, compressed_channels=8, groups=2).double().eval()
    for parameter in freqfusion.parameters():
        nn.init.normal_(parameter, std=0.3)
    return freqfusion


def normalized(logits: Tensor) -> Tensor:
    """Softmax over the taps times the window, divided by its sum, for each cell of ``[kernel², H, W]``."""
    side = round(logits.shape[0] ** 0.5)
    out = torch.zeros_like(logits)
    for i in range(logits.shape[1]):
        for j in range(logits.shape[2]):
            weights = logits[:, i, j].exp() / logits[:, i, j].exp().sum()
            for tap in range(side**2):
                out[tap, i, j] = weights[tap] * HAMMING[side][tap // side] * HAMMING[side][tap % side]
            out[:, i, j] /= out[:, i, j].sum()
    return out


def with_similarities(x: Tensor) -> Tensor:
    """``[C, H, W]`` and the cosine similarities to the 8 neighbors two cells away, row by row."""
    channels, height, width = x.shape
    out = torch.zeros(channels + 8, height, width, dtype=x.dtype)
    out[:channels] = x
    neighbors = [(i, j) for i in (-2, 0, 2) for j in (-2, 0, 2) if (i, j) != (0, 0)]
    for row in range(height):
        for column in range(width):
            for number, (i, j) in enumerate(neighbors):
                y, z = row + i, column + j
                if 0 <= y < height and 0 <= z < width:
                    product = (x[:, row, column] * x[:, y, z]).sum()
                    out[channels + number, row, column] = product / (x[:, row, column].norm() * x[:, y, z].norm())
    return out


def resampled(freqfusion: FreqFusion, coarse: Tensor, fine: Tensor, low: Tensor, bilinear) -> Tensor:
    """``low [C, 2H, 2W]`` at the offsets predicted from both compressed maps; offsets are in coarse cells."""
    generator = freqfusion.offset_generator
    a = with_similarities(generator.norm(coarse[None])[0])
    b = with_similarities(generator.norm_guide(fine[None])[0])
    offset, scale = generator.offset(a[None])[0], generator.scale(a[None])[0]
    offset_fine, scale_fine = generator.offset_guide(b[None])[0], generator.scale_guide(b[None])[0]
    out, groups, share = torch.zeros_like(low), generator.groups, low.shape[0] // generator.groups
    for row in range(low.shape[-2]):
        for column in range(low.shape[-1]):
            i, j, phase = row // 2, column // 2, 2 * (row % 2) + column % 2
            for group in range(groups):
                shift = []
                for axis in (0, 1):  # x, y
                    channel = axis * groups + group
                    reach = (scale[4 * channel + phase, i, j] + scale_fine[channel, row, column]).sigmoid()
                    shift.append((offset[4 * channel + phase, i, j] + offset_fine[channel, row, column]) * reach)
                part = slice(group * share, (group + 1) * share)
                at = (row + 2 * shift[1].item(), column + 2 * shift[0].item())  # one coarse cell is two fine cells
                out[part, row, column] = bilinear(low[part], *at, "border")
    return out


def fused(freqfusion: FreqFusion, x: Tensor, guide: Tensor, filtered, bilinear) -> tuple[Tensor, Tensor]:
    """The paper's two enhanced maps: the smoothed and resampled ``x``, and ``guide`` plus its high frequencies."""
    coarse, fine = freqfusion.compress(x[None])[0], freqfusion.compress_guide(guide[None])[0]
    high_fine = freqfusion.high_pass(fine[None])[0]
    fine = fine + (fine - filtered(fine, normalized(high_fine)))
    low_fine = freqfusion.low_pass(fine[None])[0]
    low_logits = low_fine + filtered(freqfusion.low_pass(coarse[None])[0], normalized(low_fine), 2)
    weights = normalized(low_logits)
    high_logits = high_fine + filtered(freqfusion.high_pass(coarse[None])[0], weights, 2)
    low = resampled(freqfusion, coarse, fine, filtered(x, weights, 2), bilinear)
    return low, guide + (guide - filtered(guide, normalized(high_logits)))


@torch.no_grad()
@pytest.mark.parametrize("size", [(3, 4), (1, 2)], ids=str)
def test_plus_the_guide_it_is_the_papers_fusion(size, filtered, bilinear):
    freqfusion = module()
    x = torch.randn(2, 4, *size, dtype=torch.float64)
    guide = torch.randn(2, 4, 2 * size[0], 2 * size[1], dtype=torch.float64)
    for image in range(2):
        low, enhanced = fused(freqfusion, x[image], guide[image], filtered, bilinear)
        torch.testing.assert_close(guide[image] + freqfusion(x, guide)[image], enhanced + low)
        torch.testing.assert_close(freqfusion.components(x, guide)[0][image], low)


def test_filters_are_low_pass_and_start_almost_as_the_hamming_window():
    weights = low_pass_weights(torch.zeros(1, 9, 1, 1))[0, :, 0, 0]
    torch.testing.assert_close(weights.sum(), torch.tensor(1.0))
    torch.testing.assert_close(weights[4], torch.tensor(1 / 1.16**2))
    flat, guide = torch.full((1, 8, 8, 8), 3.0), torch.full((1, 8, 16, 16), 2.0)
    low, high = FreqFusion(8).components(flat, guide)
    torch.testing.assert_close(low[..., 5:-5, 5:-5], torch.full((1, 8, 6, 6), 3.0))
    torch.testing.assert_close(high[..., 1:-1, 1:-1], torch.zeros(1, 8, 14, 14), rtol=0, atol=1e-5)


def test_in_a_pyramid_the_lateral_map_is_the_guide():
    freqfusion = FreqFusion(8)
    fpn = FPN({"c4": 3, "c5": 4}, 8, [freqfusion])
    maps = {"c4": torch.randn(1, 3, 8, 6), "c5": torch.randn(1, 4, 4, 3)}
    coarse, lateral = fpn.inner_blocks[1](maps["c5"]), fpn.inner_blocks[0](maps["c4"])
    low, high = freqfusion.components(coarse, lateral)
    torch.testing.assert_close(fpn.inner_maps(maps)[0], (lateral + high) + low)
    assert not torch.allclose(nnf.interpolate(coarse, scale_factor=2), low)


def test_channels_that_do_not_fit():
    with pytest.raises(ValueError, match=r"6 channels cannot be split into 4 groups"):
        FreqFusion(6)
    with pytest.raises(ValueError, match=r"compressed_channels 12 is no multiple of 8"):
        FreqFusion(8, compressed_channels=12)
