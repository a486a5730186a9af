"""Windows against the whole map: with every tile once, the average is the mean over the map, border and all."""

import pytest
import torch
from torch import nn

from featlift.discriminators import PatchDiscriminator
from featlift.distillation.patch_sampling import PATCH_MARGIN, PATCH_SIZE, PatchSample, patches_around, sample_patches
from featlift.losses import (
    discriminator_logits,
    discriminator_loss,
    discriminator_loss_from_maps,
    generator_adversarial_loss,
)

SIZES = [(2 * PATCH_SIZE, 3 * PATCH_SIZE), (70, 41), (2 * PATCH_SIZE + 3, PATCH_SIZE - 5)]


def critic() -> nn.Module:
    """In evaluation mode, where batch norm says the same of a cell wherever it is seen; all of its weights matter."""
    made = PatchDiscriminator(2, width_mult=1).double().eval()
    for parameter in made.parameters():
        nn.init.normal_(parameter, std=0.5)
    return made


def tile_by_tile(size):
    """Glimpses at each tile alone."""
    count = -(-size[0] // PATCH_SIZE) * -(-size[1] // PATCH_SIZE)
    for tile in range(count):
        windows, weights = patches_around(size, [tile])
        yield PatchSample({"p2": windows}, {"p2": weights.double()})


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_on_average_it_is_the_whole_map(size):
    D, student, teacher = critic(), *({"p2": torch.randn(3, 2, *size, dtype=torch.float64)} for _ in range(2))
    apart, fooled = [], []
    for look in tile_by_tile(size):
        fake, real = discriminator_logits(D, look.crop(student)), discriminator_logits(D, look.crop(teacher))
        apart.append(discriminator_loss(fake, real, look.cell_weights))
        fooled.append(generator_adversarial_loss(D, look.crop(student), look.cell_weights))
    torch.testing.assert_close(torch.stack(apart).mean(), discriminator_loss_from_maps(D, student, teacher))
    torch.testing.assert_close(torch.stack(fooled).mean(), generator_adversarial_loss(D, student))


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_what_counts_is_judged_as_on_the_whole_map(size):
    D, x = critic(), torch.randn(1, 2, *size, dtype=torch.float64)
    whole = D(x)
    for look in tile_by_tile(size):
        (top, left, bottom, right), counts = look.patches["p2"][0], look.cell_weights["p2"] > 0
        seen = D(look.crop({"p2": x})["p2"])
        torch.testing.assert_close(seen[counts], whole[..., top:bottom, left:right][counts])


def test_reach_is_the_critics():
    """Half of its 9x9 patch; a cell further away moves no logit."""
    D, x = critic(), torch.zeros(1, 2, 21, 21, dtype=torch.float64)
    changed = x.clone()
    changed[..., 10, 10] = 1
    moved = (D(changed) - D(x)).abs()[0, 0].sum(dim=0).nonzero().flatten()
    assert (moved.min().item(), moved.max().item()) == (10 - PATCH_MARGIN, 10 + PATCH_MARGIN)


def test_drawn_anew_each_time_but_alike_with_a_seed():
    maps = {"p2": torch.randn(2, 1, 8 * PATCH_SIZE, 8 * PATCH_SIZE), "p6": torch.randn(2, 1, 5, 5)}
    torch.manual_seed(3)
    first, second = sample_patches(maps, 2), sample_patches(maps, 2)
    torch.manual_seed(3)
    again = sample_patches(maps, 2)
    assert first.patches == again.patches != second.patches
    seen = first.crop(maps)
    assert seen["p2"].shape == (4, 1, PATCH_SIZE + 2 * PATCH_MARGIN, PATCH_SIZE + 2 * PATCH_MARGIN)
    assert seen["p6"] is maps["p6"]
    top, left, bottom, right = first.patches["p2"][1]
    assert torch.equal(seen["p2"][2:], maps["p2"][..., top:bottom, left:right])


def test_without_windows_all_is_as_it_was():
    maps = {"p2": torch.randn(1, 1, 8 * PATCH_SIZE, 8 * PATCH_SIZE)}
    look = sample_patches(maps, 0)
    assert look.crop(maps)["p2"] is maps["p2"]
    assert not look.cell_weights
