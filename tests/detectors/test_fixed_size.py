import pytest
import torch
from torch import nn

from featlift.detectors.fixed_size import FixedSizeDetector, parse_image_size, resize_to


class Bright(nn.Module):
    """A detector that finds the bright rectangle, with its mask, in images of 30x30 pixels."""

    def forward(self, images):
        assert all(image.shape == (3, 30, 30) for image in images)
        return [self.find(image[0] > 0.5) for image in images]

    def find(self, mask):
        rows, columns = mask.any(1).nonzero()[:, 0], mask.any(0).nonzero()[:, 0]
        box = torch.stack([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]).float()
        labels = torch.tensor([1])
        return {"boxes": box[None], "labels": labels, "scores": torch.ones(1), "masks": mask[None, None].float()}


def test_boxes_and_masks_are_in_pixels_of_the_given_images():
    images = [torch.zeros(3, 60, 90), torch.zeros(3, 30, 15)]
    images[0][:, 20:40, 30:60] = 1
    images[1][:, 10:20, 5:10] = 1
    found = FixedSizeDetector(Bright(), (30, 30))(images)
    assert [each["boxes"][0].tolist() for each in found] == [[30, 20, 60, 40], [5, 10, 10, 20]]
    for image, each in zip(images, found, strict=True):
        assert each["masks"].shape == (1, 1, *image.shape[1:])
        assert ((each["masks"][0, 0] > 0.5) == (image[0] > 0.5)).float().mean() > 0.97


def test_an_image_of_the_size_is_unchanged():
    image = torch.rand(3, 30, 40)
    torch.testing.assert_close(resize_to(image, (30, 40)), image)
    assert resize_to(image, (300, 300)).shape == (3, 300, 300)


def test_sizes_as_texts():
    assert parse_image_size("300x200") == (300, 200)
    assert parse_image_size("300") == (300, 300)
    for text in ("", "300x", "0x3", "300,300"):
        with pytest.raises(ValueError, match="HEIGHTxWIDTH"):
            parse_image_size(text)
