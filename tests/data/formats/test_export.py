from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from featlift.data.coco_folders import write_synthetic_dataset
from featlift.data.formats.export import Losses, collect_splits, unique_names
from featlift.data.open_dataset import open_dataset


@pytest.mark.parametrize(
    ("files", "names"),
    [
        (["a.jpg", "b.png"], ["a", "b"]),
        (["images/train/a.jpg", "images/train/b.jpg"], ["a", "b"]),
        (["cam0/1.png", "cam1/1.png"], ["cam0_1", "cam1_1"]),
        (["x/cam0/1.png", "x/cam1/1.png", "x/1.png"], ["cam0_1", "cam1_1", "1"]),
        (["a.jpg", "a.png", "A.gif", "a-2.jpg"], ["a", "a-2", "A-3", "a-2-2"]),
        (["C:\\data\\a.jpg"], ["a"]),
        (["../../a.jpg", "/b/c.jpg"], ["a", "b_c"]),
        (["a.b.c.jpg"], ["a.b.c"]),
    ],
)
def test_names_are_unique(files, names):
    assert unique_names(files) == names


def test_an_image_is_copied_and_turned_ones_are_written_upright(tmp_path):
    write_synthetic_dataset(tmp_path / "coco", 2, 1, (64, 64))
    first = next((tmp_path / "coco/train").glob("*"))
    pixels = np.zeros((64, 64, 3), np.uint8)
    pixels[:32] = 255
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels).save(first, exif=exif)
    images = collect_splits({"train": open_dataset(tmp_path / "coco", "train")})["train"].images
    (tmp_path / "out").mkdir()
    written = {image.write(tmp_path / "out").name: image for image in images}
    (other,) = set(written) - {first.name}
    assert (tmp_path / "out" / other).read_bytes() == (tmp_path / "coco/train" / other).read_bytes()
    upright = np.asarray(Image.open(tmp_path / "out" / first.name))
    assert (upright[:, :20] == 0).all()  # turned clockwise: what was on top is on the right
    assert (upright[:, 44:] == 255).all()


def test_objects_have_masks_and_flags(tmp_path):
    write_synthetic_dataset(tmp_path / "coco", 1, 1, (64, 64))
    dataset = open_dataset(tmp_path / "coco", "train")
    objects = dataset._entries[0].objects
    objects[0] = replace(objects[0], rle=None)
    split = collect_splits({"train": dataset})["train"]
    assert [instance.rle is None for instance in split.objects] == [True] + [False] * (len(split.objects) - 1)
    boxes = [instance.box for instance in split.objects]
    assert np.allclose(boxes, dataset[0][1]["boxes"])


def test_losses_are_counted():
    losses = Losses()
    losses.add("masks are left out", 2)
    losses.add("masks are left out")
    losses.add("crowds are left out", 0)
    assert losses.lines() == ["3 masks are left out"]
