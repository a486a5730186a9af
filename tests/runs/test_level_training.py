"""Training of an extended level without labels."""

import json

import pytest
import torch
from PIL import Image
from torchvision.models.detection import fasterrcnn_resnet50_fpn

from featlift.data.image_folder import UnlabeledImageFolder
from featlift.data.image_io import ImageReadError
from featlift.runs.level_training import LevelTrainingOptions, build_crop_batches, split_held_out, train_level
from featlift.upgrading import added_parameters, upgrade
from featlift.upgrading.extended_level import get_small_roi_size


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


def test_a_shared_level_is_trained_without_labels_and_its_held_out_loss_is_reported(yolox, photographs, tmp_path):
    before = {name: value.clone() for name, value in yolox.state_dict().items()}
    upgrade(yolox, level="p3x", width=8, num_blocks=1)
    options = LevelTrainingOptions(steps=3, image_size=64, batch_size=1, device="cpu", seed=7)
    result = train_level(yolox, photographs, tmp_path / "run", options, max_size=20)
    assert result.num_held_out == 1
    assert set(result.before) == set(result.after) == {"maps", "objectness", "classes", "boxes"}
    assert result.before != result.after
    assert "held-out" in str(result)
    assert get_small_roi_size(yolox) == 20
    assert all(torch.equal(yolox.state_dict()[name], value) for name, value in before.items())
    record = json.loads((tmp_path / "run" / "result.json").read_text())["result"]
    assert record["cost"]["gmacs"]["level"] > 0
    assert json.loads((tmp_path / "run" / "settings.json").read_text())["seed"] == 7
    trained = {name: p.clone() for name, p in added_parameters(yolox).items()}
    again = train_level(yolox, photographs, tmp_path / "run", options)
    assert again.after == pytest.approx(result.after)
    assert all(torch.equal(p, trained[name]) for name, p in added_parameters(yolox).items())


def test_sizes_that_do_not_suit_are_refused(yolox, photographs, tmp_path):
    upgrade(yolox, level="p3x", width=8)
    with pytest.raises(ValueError, match="multiple of 32"):
        train_level(yolox, photographs, tmp_path / "run", LevelTrainingOptions(steps=1, image_size=100))
    assert not (tmp_path / "run").exists()


def test_images_above_the_limit_are_refused_with_the_option(yolox, photographs, tmp_path):
    with pytest.raises(ImageReadError, match=r"0\.png has 90x70 .*--max-pixels 6300"):
        train_level(yolox, photographs, tmp_path / "run", LevelTrainingOptions(steps=1, max_pixels=6299))


def test_a_twentieth_is_held_out(photographs):
    images = UnlabeledImageFolder(photographs)
    train, held_out = split_held_out(images)
    assert len(train) == len(held_out) == 1
    assert train.image_name(0) != held_out.image_name(0)
