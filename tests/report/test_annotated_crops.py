import base64
import io

import numpy as np
import pytest
import torch
from PIL import Image

from featlift.report.annotated_crops import Outline, outline, outlines_of, to_pixels, view, window


def opened(uri):
    return np.array(Image.open(io.BytesIO(base64.b64decode(uri.split(",", 1)[1]))))


def test_pixels_of_a_picture():
    image = torch.zeros(3, 2, 4)
    image[0, 1, 3], image[2] = 2.0, 0.5
    pixels = to_pixels(image)
    assert pixels.shape == (2, 4, 3)
    assert pixels[1, 3].tolist() == [255, 0, 128]


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ((50, 50, 20, 10), (30, 25, 60, 60)),
        ((50, 50, 4, 4), (32, 32, 40, 40)),
        ((0, 0, 4, 4), (0, 0, 40, 40)),
        ((196, 90, 4, 10), (160, 60, 40, 40)),
        ((0, 0, 90, 90), (0, 0, 200, 100)),
    ],
)
def test_windows_stay_inside_a_picture_of_100_by_200(box, expected):
    assert window(box, (100, 200)) == expected


def test_a_part_shows_its_pixels_and_its_boxes():
    image = torch.rand(3, 40, 60)
    near, far = Outline(12, 22, 5, 5, "truth"), Outline(50, 0, 5, 5, "truth")
    part = view(image, [near, far], (10, 20, 16, 12), "caption")
    assert np.array_equal(opened(part.uri), to_pixels(image)[20:32, 10:26])
    assert part.outlines == [Outline(2, 2, 5, 5, "truth")]
    assert (part.width, part.height, part.caption) == (16, 12, "caption")
    assert view(image, [near, far]).outlines == [near, far]


def test_outlines_of_a_picture(truth, runs):
    outlines = outlines_of(truth, runs[1].detections, 2, 0.8, "second")
    assert outlines == [
        outline((5, 6, 14, 14), "truth"),
        outline((35, 6, 20, 20), "truth"),
        outline((5, 6, 14, 14), "second", "sign 80"),
        outline((35, 6, 20, 20), "second", "<lamp> 80"),
    ]
    assert len(outlines_of(truth, runs[1].detections, 2, 0.81, "second")) == 2
