import pytest
import torch

from featlift.image_sr import super_resolver
from featlift.image_sr.tiling import TiledSuperResolver, measure_receptive_radius

SMALL = {
    "bicubic": {},
    "srcnn": {},
    "vdsr": {"depth": 4, "width": 4},
    "edsr-baseline": {"blocks": 2, "width": 8},
    "d-dbpn": {"stages": 2, "initial_channels": 8, "width": 4},
}


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("size", [(70, 95), (33, 128)])
def test_equals_untiled_inference(name, size):
    torch.manual_seed(1)
    network = super_resolver(name, 2, **SMALL[name]).eval()
    margin = measure_receptive_radius(network)
    low = torch.rand(2, 3, *size)
    assert margin < 20
    with torch.no_grad():
        torch.testing.assert_close(
            TiledSuperResolver(network, 24, margin, batch_size=3)(low), network(low), rtol=1e-4, atol=1e-5
        )


def test_a_small_margin_changes_the_result():
    """Without a margin, tiled and untiled results differ, so the test above can fail."""
    network, low = super_resolver("edsr-baseline", 2, blocks=2, width=8).eval(), torch.rand(1, 3, 60, 60)
    with torch.no_grad():
        assert (TiledSuperResolver(network, 24, 0)(low) - network(low)).abs().max() > 1e-4


def test_tiles_are_batched_with_equal_sizes():
    shapes = []

    class RecordingNetwork(torch.nn.Module):
        scale = 1

        def forward(self, x):
            shapes.append(tuple(x.shape))
            return x

    low = torch.rand(1, 3, 50, 70)
    assert TiledSuperResolver(RecordingNetwork(), tile_size=16, margin=4, batch_size=4)(low).equal(low)
    assert {shape[1:] for shape in shapes} == {(3, 24, 24)}
    assert sum(shape[0] for shape in shapes) == 4 * 5
    assert max(shape[0] for shape in shapes) == 4


def test_small_images_are_not_tiled():
    network, low = super_resolver("srcnn", 3), torch.rand(2, 3, 20, 31)
    torch.testing.assert_close(TiledSuperResolver(network, 24, 4)(low), network(low), rtol=0, atol=0)


def test_receptive_radius_of_stacked_convolutions():
    layers = torch.nn.Sequential(*[torch.nn.Conv2d(3, 3, 3, padding=1) for _ in range(5)])
    assert measure_receptive_radius(layers) == 5


def test_invalid_tile_size():
    with pytest.raises(ValueError, match="margin"):
        TiledSuperResolver(super_resolver("bicubic", 2), 0)
