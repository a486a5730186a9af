import pytest
import torch

from featlift.image_sr.blocks import SHUFFLES, shuffle_tail


@pytest.mark.parametrize("scale", SHUFFLES)
def test_tail_enlarges(scale):
    assert shuffle_tail(4, scale)(torch.rand(1, 4, 3, 5)).shape == (1, 3, 3 * scale, 5 * scale)


def test_unknown_scale():
    with pytest.raises(ValueError, match="2, 3, 4, 8"):
        shuffle_tail(4, 6)
