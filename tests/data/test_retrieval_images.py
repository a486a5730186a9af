"""Images of collections: read, crop, split."""

import pytest
from PIL import Image

from featlift.data.image_io import list_images, read_image_crop
from featlift.data.retrieval_images import random_crop_box, split_image_files


def make(folder, *names, size=(6, 4)):
    for name in names:
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size, (255, 0, 0)).save(file)
    return folder


def test_images_are_read_upright(tmp_path):
    image = Image.new("RGB", (4, 2), (255, 0, 0))
    exif = image.getexif()
    exif[0x0112] = 6  # turn by 90°
    image.save(tmp_path / "a.jpg", exif=exif)
    (tmp_path / "notes.txt").write_text("not an image")
    (file,) = list_images(tmp_path)
    pixels = read_image_crop(file)
    assert pixels.shape == (3, 4, 2)
    assert pixels[0].min() > 0.9
    assert pixels[1:].max() < 0.1


def test_crop_boxes_are_inside_and_the_same_again(tmp_path):
    file = next(make(tmp_path, "a.png", size=(80, 40)).iterdir())
    for seed in range(5):
        left, top, right, bottom = random_crop_box(file, seed)
        assert (left, top, right, bottom) == random_crop_box(file, seed)
        assert 0 <= left < right <= 80
        assert 0 <= top < bottom <= 40
        assert right - left == pytest.approx(2 * (bottom - top))
        assert 0.7 * 40 < bottom - top < 0.9 * 40


def test_random_split():
    files = image_paths(10)
    train, rest = split_image_files(files, 7, seed=3)
    assert (len(train), len(rest)) == (7, 3)
    assert sorted(train + rest) == files
    assert split_image_files(files, 7, seed=3)[0] == train
    assert split_image_files(files, 7, seed=4)[0] != train
    with pytest.raises(ValueError, match="10 of 10"):
        split_image_files(files, 10)


def image_paths(n):
    from pathlib import Path

    return [Path(f"{i:03d}.jpg") for i in range(n)]
