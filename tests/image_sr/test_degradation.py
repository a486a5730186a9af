import io

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from featlift.image_sr.bicubic import upsample_bicubic
from featlift.image_sr.degradation import (
    JPEG,
    BicubicDownscale,
    GaussianBlur,
    GaussianNoise,
    pad_to_multiple,
)
from featlift.resolution import quantize_8bit


@pytest.mark.parametrize("factor", [2, 3, 4, 8])
def test_downscale_equals_pillow(factor):
    image = torch.rand(1, 3, 4 * factor, 7 * factor)
    channels = [Image.fromarray(c.numpy()).resize((7, 4), Image.Resampling.BICUBIC) for c in image[0]]
    pillow = torch.from_numpy(np.stack([np.asarray(c) for c in channels])).clamp(0, 1)
    torch.testing.assert_close(BicubicDownscale(factor)(image)[0], pillow, rtol=0, atol=5e-7)


@pytest.mark.parametrize("factor", [1, 2, 3, 4, 5, 6, 7, 8])
@pytest.mark.parametrize("size", [(16, 24), (17, 23), (3, 40)])
def test_upscaled_image_covers_the_original(factor, size):
    low = BicubicDownscale(factor)(torch.rand(2, 3, *size))
    assert low.shape == (2, 3, -(-size[0] // factor), -(-size[1] // factor))
    assert low.shape[-2] * factor >= size[0]


@pytest.mark.parametrize("size", [(32, 48), (33, 47), (30, 45)])
def test_positions_are_preserved(size):
    """A square, downscaled, upscaled and cropped, keeps its center at any image size: boxes need no change."""
    image = torch.zeros(1, 3, *size)
    image[..., 8:16, 12:28] = 1
    upscaled = upsample_bicubic(BicubicDownscale(4)(image), 4)[0, 0, : size[0], : size[1]]
    rows, columns = (upscaled.sum(dim) / upscaled.sum() for dim in (1, 0))
    assert (rows * torch.arange(size[0])).sum().item() == pytest.approx(11.5, abs=0.05)
    assert (columns * torch.arange(size[1])).sum().item() == pytest.approx(19.5, abs=0.05)


def test_padding_reflects_and_tiny_images_replicate():
    row = torch.arange(5.0).view(1, 1, 1, 5)
    assert pad_to_multiple(row, 4)[0, 0, 0].tolist() == [0, 1, 2, 3, 4, 3, 2, 1]
    assert pad_to_multiple(row, 4).shape[-2:] == (4, 8)
    assert pad_to_multiple(row, 4)[0, 0, 3].tolist() == [0, 1, 2, 3, 4, 3, 2, 1]
    assert pad_to_multiple(row, 5)[..., 0, :].equal(row[..., 0, :])


def test_blur_keeps_the_mean_and_spreads_by_sigma():
    point = torch.zeros(1, 3, 41, 41)
    point[..., 20, 20] = 1
    spread = GaussianBlur(2.0)(point)[0, 0]
    offsets = torch.arange(41) - 20.0
    assert spread.sum().item() == pytest.approx(1, abs=1e-4)
    assert (spread.sum(0) * offsets**2).sum().sqrt().item() == pytest.approx(2.0, abs=0.06)


def test_noise_has_its_sigma_and_its_seed():
    gray = torch.full((1, 3, 64, 64), 0.5)
    assert (GaussianNoise(0.1)(gray) - 0.5).std().item() == pytest.approx(0.1, abs=0.005)
    assert GaussianNoise(0.1, seed=3)(gray).equal(GaussianNoise(0.1, seed=3)(gray))
    assert not GaussianNoise(0.1, seed=3)(gray).equal(GaussianNoise(0.1, seed=4)(gray))


def test_jpeg_is_close_to_pillow():
    image = quantize_8bit(upsample_bicubic(torch.rand(2, 3, 6, 8), 4))
    compressed = JPEG(60)(image)
    for actual, before in zip(compressed, image, strict=True):
        file = io.BytesIO()
        Image.fromarray((before * 255).byte().permute(1, 2, 0).numpy()).save(file, "jpeg", quality=60)
        pillow = torch.from_numpy(np.array(Image.open(file))).permute(2, 0, 1) / 255
        assert (actual - pillow).abs().mean() < 0.004
        assert (actual - before).abs().mean() > 0.004


def test_they_compose():
    chain = nn.Sequential(GaussianBlur(1.0), BicubicDownscale(4), GaussianNoise(0.02), JPEG(50))
    assert chain(torch.rand(2, 3, 33, 21)).shape == (2, 3, 9, 6)


@pytest.mark.parametrize(
    "make", [lambda: BicubicDownscale(0), lambda: GaussianBlur(0), lambda: JPEG(0), lambda: JPEG(101)]
)
def test_invalid_parameters(make):
    with pytest.raises(ValueError):
        make()
