import pytest
import torch

from featlift.image_sr import super_resolver
from featlift.image_sr.tiling import TiledSuperResolver, measure_receptive_radius

SMALL = {
    "bicubic": {},
    "srcnn": {},
    "vdsr": {"depth": 4, "width": 4},
    "edsr-baseline": {"blocks": 2, "width": 8},
    "d-dbpn": {"stages": 2, "initial": 8, "width": 4},
}


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("size", [(70, 95), (33, 128)])
def test_equal_to_the_whole_picture(name, size):
    torch.manual_seed(1)
    network = super_resolver(name, 2, **SMALL[name]).eval()
    margin = measure_receptive_radius(network)
    low = torch.rand(2, 3, *size)
    assert margin < 20
    with torch.no_grad():
        torch.testing.assert_close(
            TiledSuperResolver(network, 24, margin, batch_size=3)(low), network(low), rtol=1e-4, atol=1e-5
        )


def test_a_margin_too_small_is_seen():
    """The test above can fail: without a margin, tiles differ."""
    network, low = super_resolver("edsr-baseline", 2, blocks=2, width=8).eval(), torch.rand(1, 3, 60, 60)
    with torch.no_grad():
        assert (TiledSuperResolver(network, 24, 0)(low) - network(low)).abs().max() > 1e-4


def test_windows_come_in_batches_of_one_size():
    seen = []

    class Watched(torch.nn.Module):
        scale = 1

        def forward(self, x):
            seen.append(tuple(x.shape))
            return x

    low = torch.rand(1, 3, 50, 70)
    assert TiledSuperResolver(Watched(), tile_size=16, margin=4, batch_size=4)(low).equal(low)
    assert {shape[1:] for shape in seen} == {(3, 24, 24)}
    assert sum(shape[0] for shape in seen) == 4 * 5
    assert max(shape[0] for shape in seen) == 4


def test_small_pictures_go_through_whole():
    network, low = super_resolver("srcnn", 3), torch.rand(2, 3, 20, 31)
    torch.testing.assert_close(TiledSuperResolver(network, 24, 4)(low), network(low), rtol=0, atol=0)


def test_reach_of_stacked_convolutions():
    layers = torch.nn.Sequential(*[torch.nn.Conv2d(3, 3, 3, padding=1) for _ in range(5)])
    assert measure_receptive_radius(layers) == 5


def test_impossible_tiles():
    with pytest.raises(ValueError, match="margin"):
        TiledSuperResolver(super_resolver("bicubic", 2), 0)
