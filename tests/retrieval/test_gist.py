"""The GIST descriptor: its response to gratings of known orientation and wavelength."""

import math

import pytest
import torch

from featlift.retrieval.gist import Gist


def grating(angle, wave, side=128):
    y, x = torch.meshgrid(torch.arange(float(side)), torch.arange(float(side)), indexing="ij")
    along = x * math.cos(angle) + y * math.sin(angle)
    return (0.5 + 0.5 * torch.sin(2 * math.pi * along / wave)).expand(1, 3, -1, -1)


@pytest.mark.parametrize("orientation", range(8))
@pytest.mark.parametrize("scale", range(4))
def test_a_grating_excites_its_own_orientation_and_scale(orientation, scale):
    gist = Gist()
    energies = gist(grating(math.pi * orientation / 8, 4 * 2**scale))[0, 64:].view(4, 8, 16).mean(2)
    assert divmod(energies.argmax().item(), 8) == (scale, orientation)


def test_gray_images_have_no_edges_and_no_color():
    assert Gist()(torch.full((1, 3, 64, 64), 0.3)).abs().max() < 1e-3


@pytest.mark.parametrize(("color", "index"), [((1, 0, 0), 0), ((0, 1, 0), 1), ((0, 0, 1), 2), ((1, 1, 0), 3)])
def test_colors(color, index):
    image = torch.tensor(color).float().view(1, 3, 1, 1).expand(1, 3, 64, 64)
    assert Gist()(image)[0, :64].view(4, 16).mean(1).argmax() == index


@pytest.mark.parametrize("side", [64, 100, 224])
def test_shape(side):
    out = Gist()(torch.rand(2, 3, side, side))
    assert out.shape == (2, Gist().dimension) == (2, 576)
    assert out.min() >= 0
