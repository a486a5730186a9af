"""``featlift add-level``: a level added without labels; output, delta file and errors."""

import copy

import pytest
import torch
from PIL import Image
from torchvision.models.detection import fasterrcnn_resnet50_fpn, retinanet_resnet50_fpn

from featlift.cli.main import main
from featlift.commands import add_level as module
from featlift.upgrading import load_delta
from featlift.upgrading.extended_level import get_small_roi_size


@pytest.fixture
def detector(monkeypatch):
    """torchvision's Faster R-CNN, with images resized to 64 px."""
    torch.manual_seed(0)
    small = {"min_size": 64, "max_size": 128, "rpn_post_nms_top_n_test": 10}
    model = fasterrcnn_resnet50_fpn(weights=None, weights_backbone=None, num_classes=3, **small).eval()
    monkeypatch.setattr(module, "load_network_by_name", lambda name, weights: copy.deepcopy(model))
    return model


@pytest.fixture
def photographs(tmp_path):
    folder = tmp_path / "photographs"
    folder.mkdir()
    for i, size in enumerate([(90, 70), (60, 110)]):
        Image.effect_noise(size, 60).convert("RGB").save(folder / f"{i}.png")
    return folder


def test_without_steps_the_level_is_there_and_not_read(detector, tmp_path, capsys):
    out = tmp_path / "level.safetensors"
    assert main(["add-level", "fasterrcnn_resnet50_fpn", "--transfer", "nearest", "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "bit-identical" in printed
    assert "p2x" in printed
    load_delta(detector, out)
    assert get_small_roi_size(detector) == 0


def test_a_step_on_photographs_moves_the_level_alone(detector, photographs, tmp_path, capsys):
    out = tmp_path / "level.safetensors"
    words = [
        "add-level",
        "x",
        "--images",
        str(photographs),
        "--transfer",
        "nearest",
        "--steps",
        "1",
        "--max-size",
        "40",
    ]
    assert main([*words, "--out", str(out)]) == 0
    assert "objects under 40 px" in capsys.readouterr().out
    before = {name: value.clone() for name, value in detector.state_dict().items()}
    load_delta(detector, out)
    assert get_small_roi_size(detector) == 40
    assert all(torch.equal(detector.state_dict()[name], value) for name, value in before.items())


def test_windows_are_refused_before_the_training_and_kept_in_the_file(
    detector, photographs, tmp_path, capsys, monkeypatch, shallow_torchvision
):
    out = tmp_path / "level.safetensors"
    words = ["add-level", "x", "--images", str(photographs), "--steps", "1", "--min-score", "0.1", "--out", str(out)]
    assert main(words) == 1
    assert "cannot be computed in windows" in capsys.readouterr().err
    assert not list(tmp_path.glob("level*"))
    torch.manual_seed(0)
    model = retinanet_resnet50_fpn(weights=None, weights_backbone=None, num_classes=3, min_size=64, max_size=64).eval()
    monkeypatch.setattr(module, "load_network_by_name", lambda name, weights: copy.deepcopy(model))
    assert main([*words, "--image-size", "64", "--batch-size", "1"]) == 0
    load_delta(model, out)
    assert (model.level_max_size, model.level_min_score) == (32, 0.1)


def test_steps_without_images_are_refused(capsys):
    assert main(["add-level", "fasterrcnn_resnet50_fpn", "--steps", "3"]) == 1
    assert "--images FOLDER" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [["--min-score", "0.1"], ["--max-size", "40"], ["--images", "scenes", "--lr", "0.1"], ["--image-size", "64"]],
)
def test_options_of_a_training_without_steps_are_refused(words, tmp_path, capsys):
    out = tmp_path / "level.safetensors"
    assert main(["add-level", "fasterrcnn_resnet50_fpn", *words, "--out", str(out)]) == 1
    error = capsys.readouterr().err
    assert all(word in error for word in [*words[::2], "--steps N"])
    assert not out.exists()


def test_random_weights_are_a_warning(detector, tmp_path):
    words = [
        "add-level",
        "fasterrcnn_resnet50_fpn",
        "--transfer",
        "nearest",
        "--out",
        str(tmp_path / "level.safetensors"),
    ]
    with pytest.warns(UserWarning, match="fasterrcnn_resnet50_fpn has random weights; --weights DEFAULT"):
        assert main(words) == 0


def test_the_device_is_that_of_the_training(detector, photographs, tmp_path, capsys):
    words = [
        "add-level",
        "x",
        "--images",
        str(photographs),
        "--transfer",
        "nearest",
        "--steps",
        "1",
        "--device",
        "quantum",
    ]
    assert main([*words, "--out", str(tmp_path / "level.safetensors")]) == 1
    assert "Unknown device 'quantum'" in capsys.readouterr().err
