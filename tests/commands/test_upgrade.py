"""``featlift upgrade``: a run's detector, upgraded, trained for a step and saved as a delta file."""

import pytest
import torch

from featlift.cli.main import main
from featlift.detectors.checkpoint import load_detector, save_detector
from featlift.detectors.config import DetectorConfig, build_detector
from featlift.runs.upgrade_training import check_coco_labels, warn_about_random_weights
from featlift.upgrading import load_delta


@pytest.fixture(scope="module")
def detector(tmp_path_factory):
    """Run folder of a tiny detector."""
    folder = tmp_path_factory.mktemp("run")
    options = {"anchor_scale": 4.0, "fc_dim": 16, "num_proposals": 20}
    model = DetectorConfig(
        "faster-rcnn", "test_resnet", "random", "batch", 0, pyramid_channels=8, detector_options=options
    )
    classes = ["three", "eight", "rows", "columns", "up", "down"]
    save_detector(build_detector(model, 6), model, classes, folder)
    return folder


def upgraded_detector(folder, delta):
    """The detector of ``folder`` with the delta file applied."""
    detector = load_detector(folder)[0]
    load_delta(detector, delta)
    return detector


def test_without_steps_nothing_changes_but_what_was_added(detector, tmp_path, capsys):
    out = tmp_path / "delta.safetensors"
    assert main(["upgrade", str(detector), "--interpolator", "deconv", "--out", str(out)]) == 0
    assert "bit-identical" in capsys.readouterr().out
    images = [torch.rand(3, 64, 96)]
    plain, upgraded = load_detector(detector)[0].eval(), upgraded_detector(detector, out).eval()
    assert torch.equal(plain(images)[0]["boxes"], upgraded(images)[0]["boxes"])


def test_a_step_trains_what_was_added_and_nothing_else(detector, tmp_path):
    out = tmp_path / "delta.safetensors"
    words = [
        "upgrade",
        str(detector),
        "--interpolator",
        "deconv",
        "--data",
        "scenes",
        "--steps",
        "1",
        "--out",
        str(out),
    ]
    assert main(words) == 0
    plain, upgraded = (
        load_detector(detector)[0].state_dict(),
        upgraded_detector(detector, out).state_dict(),
    )
    assert all(torch.equal(value, upgraded[name]) for name, value in plain.items())
    last = [value for name, value in upgraded.items() if "added" in name and "last" in name]
    assert any(value.abs().sum() > 0 for value in last)


def test_an_unknown_detector_names_what_there_is(capsys):
    assert main(["upgrade", "fastrcnn"]) == 1
    assert "fasterrcnn_resnet50_fpn" in capsys.readouterr().err


def test_random_weights_are_a_warning():
    with pytest.warns(UserWarning, match="has random weights; --weights DEFAULT downloads COCO's"):
        warn_about_random_weights("fasterrcnn_resnet50_fpn", "none")


def test_no_warning_about_a_run_or_given_weights(detector, recwarn):
    warn_about_random_weights(str(detector), "none")
    warn_about_random_weights("fasterrcnn_resnet50_fpn", "DEFAULT")
    assert not recwarn


def test_cocos_head_is_not_trained_on_other_classes(tmp_path, capsys):
    words = ["upgrade", "fasterrcnn_resnet50_fpn", "--weights", "DEFAULT", "--data", "scenes", "--steps", "1"]
    assert main([*words, "--out", str(tmp_path / "delta.safetensors")]) == 1
    printed = capsys.readouterr().err
    assert "the classes of scenes are not these" in printed
    assert "--weights FILE" in printed
    assert not list(tmp_path.iterdir())


def test_a_run_folder_keeps_its_own_classes(detector):
    check_coco_labels(str(detector), "DEFAULT", "scenes")


def test_the_device_is_that_of_the_training(detector, tmp_path, capsys):
    words = ["upgrade", str(detector), "--interpolator", "deconv", "--steps", "1", "--device", "quantum"]
    assert main([*words, "--out", str(tmp_path / "delta.safetensors")]) == 1
    assert "Unknown device 'quantum'" in capsys.readouterr().err


def test_options_of_a_training_without_steps_are_refused(capsys):
    assert main(["upgrade", "fasterrcnn_resnet50_fpn", "--lr", "0.1", "--train-all", "true"]) == 1
    assert (
        "--lr, --train-all would have no effect, because nothing is trained: give --steps N" in capsys.readouterr().err
    )
