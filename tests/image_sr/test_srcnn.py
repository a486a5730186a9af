import torch

from featlift.image_sr.bicubic import upsample_bicubic
from featlift.image_sr.srcnn import SRCNN


def test_keeps_the_chroma_of_the_upsampled_image():
    low = torch.rand(1, 3, 6, 7)
    change = SRCNN(3)(low) - upsample_bicubic(low, 3)
    assert change.abs().max() > 0
    torch.testing.assert_close(change[:, 0], change[:, 1], rtol=0, atol=1e-6)
    torch.testing.assert_close(change[:, 1], change[:, 2], rtol=0, atol=1e-6)
