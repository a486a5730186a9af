"""Crops on which an extended level is trained."""

import pytest
from PIL import Image
from torchvision.models.detection import fasterrcnn_resnet50_fpn

from featlift.data.image_folder import UnlabeledImageFolder
from featlift.runs.level_training import build_crop_batches


@pytest.fixture
def photographs(tmp_path):
    folder = tmp_path / "photographs"
    folder.mkdir()
    for i, size in enumerate([(90, 70), (60, 110)]):
        Image.effect_noise(size, 60).convert("RGB").save(folder / f"{i}.png")
    return folder


def test_squares_are_of_twice_the_size_and_cells_lie_on_cells(photographs):
    small = {"min_size": 64, "max_size": 128}
    detector = fasterrcnn_resnet50_fpn(weights=None, weights_backbone=None, num_classes=3, **small)
    images, _ = next(build_crop_batches(detector, UnlabeledImageFolder(photographs), 0).iter_from(0))
    assert {tuple(image.shape) for image in images} == {(3, 128, 128)}
