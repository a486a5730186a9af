"""Facts of images, and what they show."""

import numpy as np
import torch
from PIL import Image

from featlift.data.image_checks import (
    ImageFacts,
    check_common_images,
    check_image_facts,
    find_equal_images,
    read_image_facts,
    read_image_header,
)
from featlift.data.synthetic.scenes import SyntheticScenes


def test_equal_pixels_have_equal_digests():
    scenes = SyntheticScenes(3, (64, 64), num_objects=(1, 2), object_sizes=(6, 20))
    facts = list(read_image_facts(scenes))
    assert [image.name for image in facts] == [scenes.image_name(k) for k in range(3)]
    assert len({image.digest for image in facts}) == 3
    assert facts == list(read_image_facts(scenes))
    assert facts[0].peak == float(torch.max(scenes[0][0]))


def test_the_header_shows_orientation_and_mode(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.zeros((3, 4), np.uint16)).save(tmp_path / "a.png", exif=exif)
    assert read_image_header(tmp_path / "a.png") == (6, "I;16")


def test_only_what_is_odd_is_found():
    plain = ImageFacts("a", "1", 0.9)
    assert check_image_facts([plain, ImageFacts("b", "2", 0.01)]) == []
    titles = [
        f.title for f in check_image_facts([plain, ImageFacts("b", "1", 0.9, 3), ImageFacts("c", "3", 0.1, 8, "I;16")])
    ]
    assert len(titles) == 4
    assert find_equal_images([plain, ImageFacts("b", "1", 0.9)]) == [["a", "b"]]


def test_images_of_two_splits_are_an_error():
    (finding,) = check_common_images(
        {"train": [ImageFacts("a", "1", 1.0)], "val": [ImageFacts("x", "1", 1.0), ImageFacts("y", "2", 1.0)]}
    )
    assert (finding.severity, finding.examples) == ("error", ["a = x"])
