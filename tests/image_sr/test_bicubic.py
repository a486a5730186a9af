import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.io import ImageReadMode, decode_image

from featlift.image_sr.bicubic import BicubicSR, apply_to_luma, upsample_bicubic


@pytest.mark.parametrize("scale", [2, 3, 4, 8])
def test_equals_pillow(scale):
    image = torch.rand(3, 9, 14)
    channels = [Image.fromarray(c.numpy()).resize((14 * scale, 9 * scale), Image.Resampling.BICUBIC) for c in image]
    pillow = torch.from_numpy(np.stack([np.asarray(c) for c in channels]))
    torch.testing.assert_close(upsample_bicubic(image[None], scale)[0], pillow, rtol=0, atol=1e-6)


def test_stays_between_black_and_white():
    step = torch.zeros(1, 3, 4, 4)
    step[..., 2:] = 1
    assert upsample_bicubic(step, 4).max() > 1
    assert BicubicSR(4)(step).min() >= 0
    assert BicubicSR(4)(step).max() <= 1


def test_luma_is_replaced_and_chroma_kept():
    """Compared with the full matrix of BT.601 and its inverse."""
    matrix = np.array([[65.481, 128.553, 24.966], [-37.797, -74.203, 112.0], [112.0, -93.786, -18.214]]) / 255
    image = torch.rand(1, 3, 4, 5)
    out = apply_to_luma(lambda y: 0.5 * y + 0.1, image)
    ycc = np.tensordot(matrix, image[0].double().numpy(), 1)
    ycc[0] = 0.5 * (ycc[0] + 16 / 255) + 0.1 - 16 / 255
    expected = np.tensordot(np.linalg.inv(matrix), ycc, 1)
    np.testing.assert_allclose(out[0].numpy(), expected, atol=1e-5)


SET5 = Path(os.environ.get("FEATLIFT_DATA", Path(__file__).parents[3] / "shared" / "data")) / "sr" / "Set5"


@pytest.mark.skipif(not SET5.is_dir(), reason="needs Set5 in $FEATLIFT_DATA/sr/Set5")
@pytest.mark.parametrize(("scale", "published"), [(2, 33.66), (4, 28.42)])
def test_set5_has_the_published_psnr(scale, published):
    """The bicubic line of every super-resolution table: Y, border cropped by the scale, mean over the five images."""
    from featlift.evaluation.image_quality import psnr_y
    from featlift.resolution import quantize_8bit

    def read(path):
        return decode_image(str(path), mode=ImageReadMode.RGB) / 255

    originals = sorted((SET5 / f"x{scale}").glob("*_HR.png"))
    assert len(originals) == 5
    rows = []
    for original in originals:
        low = read(str(original).replace("_HR", "_LR"))
        rows.append(psnr_y(quantize_8bit(BicubicSR(scale)(low[None]))[0], read(original), border=scale))
    assert sum(rows) / 5 == pytest.approx(published, abs=0.06)
