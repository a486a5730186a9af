"""Unit vectors, the paper's layer, and downscaling as in Pillow."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from featlift.retrieval.descriptors import (
    DOWNSCALERS,
    AveragePooling,
    Embedder,
    GeM,
    VGG16Fc7,
    decimate_then_resize,
    downscale_then_resize,
    embed_images,
    resize_then_downscale,
)


class Maps(nn.Module):
    """A convolution with dropout, as an encoder."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 5, 3), nn.ReLU(), nn.Dropout(0.5))

    def forward(self, image):
        return self.layers(image)


def test_descriptors_are_unit_vectors_without_graph_and_never_in_training_mode():
    embedder = Embedder(Maps(), AveragePooling(), input_size=8)
    image = torch.rand(2, 3, 8, 8)
    out = embedder.train()(image)
    assert torch.equal(out, embedder(image))  # no dropout
    torch.testing.assert_close(out.norm(dim=1), torch.ones(2))
    assert not out.requires_grad
    with pytest.raises(ValueError, match="pooling"):
        Embedder(Maps(), input_size=8)(image)


def test_pooling_by_hand():
    x = torch.tensor([[[[1.0, 2], [3, 4]]]])
    assert AveragePooling()(x).item() == 2.5
    assert GeM(3.0)(x).item() == pytest.approx(((1 + 8 + 27 + 64) / 4) ** (1 / 3))
    assert GeM(1.0)(x).item() == pytest.approx(2.5)
    assert GeM(60.0)(x.double()).item() == pytest.approx(4, rel=0.03)


@pytest.mark.parametrize("pool", [AveragePooling(), GeM()])
def test_tokens_equal_locations(pool):
    maps = torch.rand(2, 5, 3, 4)
    torch.testing.assert_close(pool(maps), pool(maps.flatten(2).transpose(1, 2)))


def test_the_36th_layer_is_fc7_after_its_relu():
    with torch.device("meta"):
        fc7 = VGG16Fc7()
    assert sum(p.numel() for p in fc7.parameters()) == 134_260_544
    assert [type(layer).__name__ for layer in fc7.classifier][-1] == "Dropout" or isinstance(
        fc7.classifier[-1], nn.ReLU
    )
    assert isinstance(fc7.classifier[-2], nn.Linear)
    assert isinstance(fc7.classifier[-1], nn.ReLU)
    assert fc7.classifier[-2].out_features == 4096


def pillow(image, size):
    """Pillow's own float bicubic, one channel at a time."""
    channels = [Image.fromarray(c.numpy()).resize(size[::-1], Image.Resampling.BICUBIC) for c in image]
    return torch.stack([torch.from_numpy(np.array(c)) for c in channels]).clamp(0, 1)


@pytest.mark.parametrize("ratio", [1.0, 2.0, 3.0, 8.0])
def test_downscaling_equals_pillow(ratio):
    torch.manual_seed(0)
    image = torch.rand(3, 50, 70)
    small = pillow(image, (round(50 / ratio), round(70 / ratio))) if ratio > 1 else image
    torch.testing.assert_close(downscale_then_resize(image, ratio, 32), pillow(small, (32, 32)), atol=1e-5, rtol=0)


def test_the_input_mode_leaves_as_many_pixels_in_every_image():
    torch.manual_seed(0)
    image = torch.rand(3, 128, 128)
    expected = pillow(pillow(pillow(image, (32, 32)), (8, 8)), (32, 32))
    torch.testing.assert_close(resize_then_downscale(image, 4, 32), expected, atol=1e-5, rtol=0)
    assert torch.equal(resize_then_downscale(image, 1, 32), downscale_then_resize(image, 1, 32))


def test_decimation_does_not_interpolate():
    image = torch.zeros(3, 8, 8)
    image[:, 1::2, 1::2] = 1
    assert set(decimate_then_resize(image, 2, 4).unique().tolist()) <= {0.0, 1.0}


@pytest.mark.parametrize("downscale", DOWNSCALERS.values(), ids=list(DOWNSCALERS))
def test_every_downscaler_keeps_range_and_size_down_to_one_pixel(downscale):
    image = torch.rand(3, 5, 9)
    for ratio in (1, 2.5, 100):
        result = downscale(image, ratio, 16)
        assert result.shape == (3, 16, 16)
        assert result.min() >= 0
        assert result.max() <= 1
    with pytest.raises(ValueError, match="at least 1"):
        downscale(image, 0.5, 16)


def test_batches_do_not_matter():
    embedder = Embedder(Maps(), AveragePooling(), input_size=8)
    images = list(torch.rand(7, 3, 8, 8))
    torch.testing.assert_close(embed_images(embedder, images, batch_size=3), embedder(torch.stack(images)))
    assert embed_images(embedder, []).shape == (0, 0)
