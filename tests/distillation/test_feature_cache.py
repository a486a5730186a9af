"""Each image is processed once, and cached maps equal computed maps."""

import pytest
import torch
from torch import nn

from featlift.distillation.feature_cache import CachedExtractor


class CountingExtractor(nn.Module):
    """Extractor with two levels that counts the images it processes."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.register_buffer("mean", torch.zeros(1, 3, 1, 1), persistent=False)
        self.count = 0

    def forward(self, images):
        self.count += len(images)
        fine = self.conv(images)
        return {"p3": fine, "p10": nn.functional.avg_pool2d(fine, 2)}


IMAGES = torch.rand(4, 3, 8, 6)


def test_each_image_is_processed_once_across_runs(tmp_path):
    plain, extractor = CountingExtractor(), CountingExtractor()
    cached = CachedExtractor(extractor, tmp_path)
    for order in ([0, 1], [1, 2], [2, 0], [3, 1, 0]):
        maps, expected = cached(IMAGES[order]), plain(IMAGES[order])
        assert list(maps) == ["p3", "p10"]
        for level in maps:
            torch.testing.assert_close(maps[level], expected[level])
    assert extractor.count == 4
    later = CountingExtractor()
    assert torch.equal(CachedExtractor(later, tmp_path)(IMAGES)["p3"], cached(IMAGES)["p3"])
    assert later.count == 0
    assert cached.mean is extractor.mean


@pytest.mark.parametrize("change", ["weight", "pixel", "shape"])
def test_changed_inputs_are_processed_again(tmp_path, change):
    CachedExtractor(CountingExtractor(), tmp_path)(IMAGES[:1])
    extractor, image = CountingExtractor(), IMAGES[:1].clone()
    if change == "weight":
        extractor.conv.weight.data[0, 0, 0, 0] += 1e-4
    elif change == "pixel":
        image[0, 2, 7, 5] += 1e-4
    else:
        image = image.reshape(1, 3, 6, 8)
    maps = CachedExtractor(extractor, tmp_path)(image)
    assert extractor.count == 1
    assert torch.equal(maps["p3"], extractor(image)["p3"])


def test_full_cache(tmp_path):
    """The maps of an image have 4·48 + 4·12 values: 1,000 bytes hold the maps of a single image."""
    extractor = CountingExtractor()
    cached = CachedExtractor(extractor, tmp_path, max_gigabytes=1e-6)
    cached(IMAGES[:1]), cached(IMAGES[1:2])
    assert len(list(tmp_path.glob("*/*.safetensors"))) == 1
    cached(IMAGES[:2])
    assert extractor.count == 3
    assert CachedExtractor(extractor, tmp_path, max_gigabytes=1e-6).free_bytes < 40
