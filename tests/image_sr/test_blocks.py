import pytest
import torch

from featlift.image_sr.blocks import PIXEL_SHUFFLE_FACTORS, pixel_shuffle_tail


@pytest.mark.parametrize("scale", PIXEL_SHUFFLE_FACTORS)
def test_tail_upsamples(scale):
    assert pixel_shuffle_tail(4, scale)(torch.rand(1, 4, 3, 5)).shape == (1, 3, 3 * scale, 5 * scale)


def test_unknown_scale():
    with pytest.raises(ValueError, match="2, 3, 4, 8"):
        pixel_shuffle_tail(4, 6)
