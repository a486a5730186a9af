import numpy as np
import pytest
import torch
from PIL import Image

from featlift.data.batches import ResumableDataLoader
from featlift.data.dataset import ImageDataset
from featlift.data.image_folder import UnlabeledImageFolder


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "below").mkdir()
    for number, (name, size) in enumerate([("b.png", (40, 30)), ("a.JPG", (20, 50)), ("below/c.png", (64, 64))]):
        Image.fromarray(np.full((size[1], size[0], 3), 50 * number, np.uint8)).save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("not an image")
    return tmp_path


def test_images_by_name_without_objects(folder):
    dataset = UnlabeledImageFolder(folder)
    assert isinstance(dataset, ImageDataset)
    assert [dataset.image_name(i) for i in range(3)] == ["a.JPG", "b.png", "below/c.png"]
    assert [dataset.image_size(i) for i in range(3)] == [(50, 20), (30, 40), (64, 64)]
    image, target = dataset[1]
    assert image.shape == (3, 30, 40)
    assert target["boxes"].shape == (0, 4)
    assert [image["id"] for image in dataset.coco()["images"]] == [int(dataset[i][1]["image_id"]) for i in range(3)]


def test_they_make_batches(folder):
    images, _ = next(ResumableDataLoader(UnlabeledImageFolder(folder), 3).iter_from(0))
    assert sorted(image.shape[-1] for image in images) == [20, 40, 64]
    assert images[0].dtype == torch.float32


def test_only_large_ones(folder):
    assert [UnlabeledImageFolder(folder, 30).image_size(i) for i in range(2)] == [(30, 40), (64, 64)]
    with pytest.raises(ValueError, match="the largest has 64"):
        UnlabeledImageFolder(folder, 65)


def test_large_images_are_named_before_training(folder):
    with pytest.raises(ValueError, match=r"c\.png has 64x64 .*--max-pixels 4096"):
        UnlabeledImageFolder(folder, max_pixels=4095)
    assert len(UnlabeledImageFolder(folder, max_pixels=4096)) == 3


def test_no_folder_and_no_images(tmp_path):
    with pytest.raises(FileNotFoundError, match="no image"):
        UnlabeledImageFolder(tmp_path)
    with pytest.raises(FileNotFoundError, match="no folder"):
        UnlabeledImageFolder(tmp_path / "elsewhere")
