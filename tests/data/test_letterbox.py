"""Letterboxed images against OpenCV-like resizing by hand, and random zooms."""

import torch
import torch.nn.functional as nnf

from featlift.data.letterbox import PADDING, RandomZoom, letterbox


def test_the_longer_side_fills_the_square_and_the_rest_is_gray():
    image = (torch.rand(3, 50, 101) * 255).round() / 255
    square, scale = letterbox(image, 64)
    assert scale == 64 / 101
    height = int(50 * scale)
    expected = nnf.interpolate(image[None], size=(height, 64), mode="bilinear")[0]
    assert (square[:, :height] - expected).abs().max() <= 0.5 / 255 + 1e-6
    assert (square[:, height:] == PADDING).all()
    levels = square * 255
    torch.testing.assert_close(levels, levels.round(), atol=1e-4, rtol=0)


def test_an_image_of_the_size_is_unchanged():
    image = (torch.rand(3, 32, 32) * 255).round() / 255
    square, scale = letterbox(image, 32)
    assert scale == 1
    torch.testing.assert_close(square, image)


def test_zooms_are_squares_that_depend_on_the_generator_alone():
    image, target = torch.rand(3, 40, 90), {"boxes": torch.zeros(0, 4)}
    zooms = [RandomZoom(64)(image, target, torch.Generator().manual_seed(seed))[0] for seed in (0, 0, 1)]
    assert all(zoom.shape == (3, 64, 64) for zoom in zooms)
    assert torch.equal(zooms[0], zooms[1])
    assert not torch.equal(zooms[0], zooms[2])
