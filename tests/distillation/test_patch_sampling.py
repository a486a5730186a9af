"""Windows against the whole map: with every tile once, the average is the mean over the map, border and all."""

import pytest
import torch
from torch import nn

from featlift.discriminators import PatchCritic
from featlift.distillation.patch_sampling import REACH, SIDE, Glimpses, glimpses, windows_of
from featlift.losses import fool, judge, tell_apart, tell_apart_logits

SIZES = [(2 * SIDE, 3 * SIDE), (70, 41), (2 * SIDE + 3, SIDE - 5)]


def critic() -> nn.Module:
    """In evaluation mode, where batch norm says the same of a cell wherever it is seen; all of its weights matter."""
    made = PatchCritic(2, width=1).double().eval()
    for parameter in made.parameters():
        nn.init.normal_(parameter, std=0.5)
    return made


def tile_by_tile(size):
    """Glimpses at each tile alone."""
    count = -(-size[0] // SIDE) * -(-size[1] // SIDE)
    for tile in range(count):
        windows, weights = windows_of(size, [tile])
        yield Glimpses({"p2": windows}, {"p2": weights.double()})


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_on_average_it_is_the_whole_map(size):
    D, student, teacher = critic(), *({"p2": torch.randn(3, 2, *size, dtype=torch.float64)} for _ in range(2))
    apart, fooled = [], []
    for look in tile_by_tile(size):
        fake, real = judge(D, look.of(student)), judge(D, look.of(teacher))
        apart.append(tell_apart_logits(fake, real, look.weights))
        fooled.append(fool(D, look.of(student), look.weights))
    torch.testing.assert_close(torch.stack(apart).mean(), tell_apart(D, student, teacher))
    torch.testing.assert_close(torch.stack(fooled).mean(), fool(D, student))


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_what_counts_is_judged_as_on_the_whole_map(size):
    D, x = critic(), torch.randn(1, 2, *size, dtype=torch.float64)
    whole = D(x)
    for look in tile_by_tile(size):
        (top, left, bottom, right), counts = look.windows["p2"][0], look.weights["p2"] > 0
        seen = D(look.of({"p2": x})["p2"])
        torch.testing.assert_close(seen[counts], whole[..., top:bottom, left:right][counts])


def test_reach_is_the_critics():
    """Half of its 9x9 patch; a cell further away moves no logit."""
    D, x = critic(), torch.zeros(1, 2, 21, 21, dtype=torch.float64)
    changed = x.clone()
    changed[..., 10, 10] = 1
    moved = (D(changed) - D(x)).abs()[0, 0].sum(dim=0).nonzero().flatten()
    assert (moved.min().item(), moved.max().item()) == (10 - REACH, 10 + REACH)


def test_drawn_anew_each_time_but_alike_with_a_seed():
    maps = {"p2": torch.randn(2, 1, 8 * SIDE, 8 * SIDE), "p6": torch.randn(2, 1, 5, 5)}
    torch.manual_seed(3)
    first, second = glimpses(maps, 2), glimpses(maps, 2)
    torch.manual_seed(3)
    again = glimpses(maps, 2)
    assert first.windows == again.windows != second.windows
    seen = first.of(maps)
    assert seen["p2"].shape == (4, 1, SIDE + 2 * REACH, SIDE + 2 * REACH)
    assert seen["p6"] is maps["p6"]
    top, left, bottom, right = first.windows["p2"][1]
    assert torch.equal(seen["p2"][2:], maps["p2"][..., top:bottom, left:right])


def test_without_windows_all_is_as_it_was():
    maps = {"p2": torch.randn(1, 1, 8 * SIDE, 8 * SIDE)}
    look = glimpses(maps, 0)
    assert look.of(maps)["p2"] is maps["p2"]
    assert not look.weights
