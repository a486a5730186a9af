"""Patches against the whole map: the average over all tiles is the mean over the map, including the border."""

import pytest
import torch
from torch import nn

from featlift.distillation.discriminator import PatchDiscriminator
from featlift.distillation.patch_sampling import PATCH_MARGIN, PATCH_SIZE, PatchSample, patches_around, sample_patches
from featlift.losses import (
    discriminator_logits,
    discriminator_loss,
    generator_adversarial_loss,
)

SIZES = [(2 * PATCH_SIZE, 3 * PATCH_SIZE), (70, 41), (2 * PATCH_SIZE + 3, PATCH_SIZE - 5)]


def discriminator() -> nn.Module:
    """Discriminator with random weights in evaluation mode, where batch norm does not depend on the other cells."""
    module = PatchDiscriminator(2, width_mult=1).double().eval()
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.5)
    return module


def tile_by_tile(size):
    """Samples with a single tile each."""
    count = -(-size[0] // PATCH_SIZE) * -(-size[1] // PATCH_SIZE)
    for tile in range(count):
        patches, weights = patches_around(size, [tile])
        yield PatchSample({"p2": patches}, {"p2": weights.double()})


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_the_average_is_the_loss_of_the_whole_map(size):
    D, student, teacher = discriminator(), *({"p2": torch.randn(3, 2, *size, dtype=torch.float64)} for _ in range(2))
    discriminator_losses, generator_losses = [], []
    for sample in tile_by_tile(size):
        fake, real = discriminator_logits(D, sample.crop(student)), discriminator_logits(D, sample.crop(teacher))
        discriminator_losses.append(discriminator_loss(fake, real, sample.cell_weights))
        generator_losses.append(generator_adversarial_loss(D, sample.crop(student), sample.cell_weights))
    torch.testing.assert_close(
        torch.stack(discriminator_losses).mean(),
        discriminator_loss(discriminator_logits(D, student), discriminator_logits(D, teacher)),
    )
    torch.testing.assert_close(torch.stack(generator_losses).mean(), generator_adversarial_loss(D, student))


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_weighted_cells_have_the_logits_of_the_whole_map(size):
    D, x = discriminator(), torch.randn(1, 2, *size, dtype=torch.float64)
    whole = D(x)
    for sample in tile_by_tile(size):
        (top, left, bottom, right), weighted = sample.patches["p2"][0], sample.cell_weights["p2"] > 0
        logits = D(sample.crop({"p2": x})["p2"])
        torch.testing.assert_close(logits[weighted], whole[..., top:bottom, left:right][weighted])


def test_margin_is_the_receptive_radius():
    """Half of the 9x9 receptive field; cells further away change no logit."""
    D, x = discriminator(), torch.zeros(1, 2, 21, 21, dtype=torch.float64)
    changed = x.clone()
    changed[..., 10, 10] = 1
    moved = (D(changed) - D(x)).abs()[0, 0].sum(dim=0).nonzero().flatten()
    assert (moved.min().item(), moved.max().item()) == (10 - PATCH_MARGIN, 10 + PATCH_MARGIN)


def test_sampling_is_random_and_reproducible():
    maps = {"p2": torch.randn(2, 1, 8 * PATCH_SIZE, 8 * PATCH_SIZE), "p6": torch.randn(2, 1, 5, 5)}
    torch.manual_seed(3)
    first, second = sample_patches(maps, 2), sample_patches(maps, 2)
    torch.manual_seed(3)
    repeated = sample_patches(maps, 2)
    assert first.patches == repeated.patches != second.patches
    crops = first.crop(maps)
    assert crops["p2"].shape == (4, 1, PATCH_SIZE + 2 * PATCH_MARGIN, PATCH_SIZE + 2 * PATCH_MARGIN)
    assert crops["p6"] is maps["p6"]
    top, left, bottom, right = first.patches["p2"][1]
    assert torch.equal(crops["p2"][2:], maps["p2"][..., top:bottom, left:right])


def test_without_patches_maps_do_not_change():
    maps = {"p2": torch.randn(1, 1, 8 * PATCH_SIZE, 8 * PATCH_SIZE)}
    sample = sample_patches(maps, 0)
    assert sample.crop(maps)["p2"] is maps["p2"]
    assert not sample.cell_weights
