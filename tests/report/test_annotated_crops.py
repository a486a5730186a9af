import base64
import io

import numpy as np
import pytest
import torch
from PIL import Image

from featlift.report.annotated_crops import (
    StyledBox,
    annotate_image,
    build_styled_boxes,
    crop_around,
    make_styled_box,
    to_uint8,
)


def decode(uri):
    return np.array(Image.open(io.BytesIO(base64.b64decode(uri.split(",", 1)[1]))))


def test_pixels_of_an_image():
    image = torch.zeros(3, 2, 4)
    image[0, 1, 3], image[2] = 2.0, 0.5
    pixels = to_uint8(image)
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
def test_crops_stay_inside_an_image_of_100_by_200(box, expected):
    assert crop_around(box, (100, 200)) == expected


def test_a_crop_has_its_pixels_and_its_boxes():
    image = torch.rand(3, 40, 60)
    near, far = StyledBox(12, 22, 5, 5, "truth"), StyledBox(50, 0, 5, 5, "truth")
    part = annotate_image(image, [near, far], (10, 20, 16, 12), "caption")
    assert np.array_equal(decode(part.uri), to_uint8(image)[20:32, 10:26])
    assert part.boxes == [StyledBox(2, 2, 5, 5, "truth")]
    assert (part.width, part.height, part.caption) == (16, 12, "caption")
    assert annotate_image(image, [near, far]).boxes == [near, far]


def test_boxes_of_an_image(truth, runs):
    boxes = build_styled_boxes(truth, runs[1].detections, 2, 0.8, "second")
    assert boxes == [
        make_styled_box((5, 6, 14, 14), "truth"),
        make_styled_box((35, 6, 20, 20), "truth"),
        make_styled_box((5, 6, 14, 14), "second", "sign 80"),
        make_styled_box((35, 6, 20, 20), "second", "<lamp> 80"),
    ]
    assert len(build_styled_boxes(truth, runs[1].detections, 2, 0.81, "second")) == 2
