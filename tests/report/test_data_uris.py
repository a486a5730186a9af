import base64
import io

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from featlift.report.data_uris import encode_data_uri, figure_data_uri, image_data_uri


def decode(uri):
    return np.array(Image.open(io.BytesIO(base64.b64decode(uri.split(",", 1)[1]))))


def test_png_keeps_every_pixel():
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    uri = image_data_uri(pixels)
    assert uri.startswith("data:image/png;base64,")
    assert np.array_equal(decode(uri), pixels)
    assert decode(image_data_uri(pixels, "JPEG")).shape == (5, 7, 3)


def test_a_figure_is_the_same_svg_each_time():
    figure = Figure()
    figure.subplots().plot([1, 2], label="a")
    first, second = figure_data_uri(figure), figure_data_uri(figure)
    kind, _, content = first.partition(",")
    assert kind == "data:image/svg+xml;base64"
    assert b"<svg" in base64.b64decode(content)
    assert len(first) == len(second)


def test_any_content():
    assert encode_data_uri(b"abc", "gif") == "data:image/gif;base64,YWJj"
