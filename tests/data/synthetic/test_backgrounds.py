import numpy as np
import pytest

from featlift.data.synthetic.backgrounds import apply_camera_effects, draw_background
from featlift.data.synthetic.rng import PortableRNG


@pytest.mark.parametrize("size", [(1, 1), (7, 130), (160, 160), (241, 33)])
def test_any_size(size):
    assert draw_background(size, PortableRNG(0)).shape == (*size, 3)


def test_backgrounds_vary_within_and_between_scenes():
    images = [apply_camera_effects(draw_background((64, 64), PortableRNG(k)), PortableRNG(k)) for k in range(12)]
    assert all(image.std() > 2 for image in images)
    assert np.std([image.mean() for image in images]) > 5


def test_the_camera_keeps_a_flat_wall_flat():
    wall = np.full((32, 32, 3), 100, dtype=np.int32)
    for k in range(10):
        shot = apply_camera_effects(wall, PortableRNG(k)).astype(int)
        assert 80 - 8 <= shot.min() <= shot.max() <= 110 + 8
        assert shot.max() - shot.min() <= 16


def test_the_camera_blurs_some_edges():
    edge = np.zeros((16, 16, 3), dtype=np.int32)
    edge[:, 8:] = 200
    steps = [
        int(np.abs(np.diff(apply_camera_effects(edge, PortableRNG(k)).astype(int), axis=1)).max()) for k in range(30)
    ]
    assert min(steps) < 130 < 150 < max(steps)
