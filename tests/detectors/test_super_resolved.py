import pytest
import torch
from torch import nn

from featlift.detectors.super_resolved import DegradeAndUpscale, SRDetector
from featlift.image_sr import BicubicSR, super_resolver
from featlift.image_sr.bicubic import upsample_bicubic
from featlift.image_sr.degradation import BicubicDownscale, GaussianBlur
from featlift.resolution import quantize_8bit


class Corner(nn.Module):
    """A detector that finds the brightest pixel."""

    def forward(self, images, targets=None):
        return [self._found(image) for image in images]

    def _found(self, image):
        row, column = divmod(int(image.sum(0).argmax()), image.shape[-1])
        box = torch.tensor([[column, row, column + 1, row + 1]], dtype=torch.float32)
        return {
            "boxes": box,
            "labels": torch.ones(1).long(),
            "scores": torch.ones(1),
            "masks": (image.mean(0) > 0.5).float()[None, None],
        }


@pytest.mark.parametrize("factor", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("size", [(32, 48), (33, 47), (30, 45)])
def test_restored_keeps_the_size(factor, size):
    upscale, images = DegradeAndUpscale(BicubicSR(4), factor), torch.rand(2, 3, *size)
    assert upscale(images).shape == images.shape
    assert upscale.degrade(images).shape[-1] == -(-size[1] // factor)


def test_restored_is_shrunk_stored_enlarged_stored():
    images = torch.rand(1, 3, 24, 32)
    by_hand = quantize_8bit(upsample_bicubic(quantize_8bit(BicubicDownscale(4)(images)), 4))
    torch.testing.assert_close(DegradeAndUpscale(BicubicSR(4), 4)(images), by_hand)
    blurred = nn.Sequential(GaussianBlur(2.0), BicubicDownscale(4))
    assert not DegradeAndUpscale(BicubicSR(4), 4, blurred)(images).equal(by_hand)


def test_another_factor_than_the_networks_is_resampled():
    """A ramp keeps its position."""
    ramp = torch.linspace(0, 1, 48).expand(1, 3, 48, 48)
    for factor in (2, 3, 6):
        restored = DegradeAndUpscale(BicubicSR(4), factor)(ramp)
        assert (restored - ramp)[..., 8:-8, 8:-8].abs().max() < 0.02


def test_the_detector_receives_preprocessed_images():
    image = torch.zeros(3, 16, 16)
    image[:, 5, 9] = 1
    detections = SRDetector(Corner(), lambda images: images.flip(-1))([image])
    assert detections[0]["boxes"].tolist() == [[6, 5, 7, 6]]


def test_preprocessing_must_keep_the_size():
    with pytest.raises(ValueError, match="Upscale low-resolution images"):
        SRDetector(Corner(), super_resolver("bicubic", 2))([torch.rand(3, 8, 8)])
