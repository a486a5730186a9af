"""Upgrade of a detector and fine-tuning of what was added."""

import pytest
import torch

from featlift.detectors.config import DetectorConfig, build_detector
from featlift.runs.upgrade_training import FineTuneOptions, fine_tune_upgrade, upgrade_and_print
from featlift.upgrading import added_parameters


@pytest.fixture
def detector(capsys):
    """Tiny detector with an added deconvolution."""
    options = {"anchor_scale": 4.0, "fc_dim": 16, "num_proposals": 20}
    model = DetectorConfig(
        "faster-rcnn", "test_resnet", "random", "batch", 0, pyramid_channels=8, detector_options=options
    )
    detector = build_detector(model, 6)
    upgrade_and_print(detector, "deconv")
    return detector


def test_the_report_and_the_comparison_are_printed(detector, capsys):
    printed = capsys.readouterr().out
    assert "deconv" in printed
    assert "outputs on an image before and after: bit-identical" in printed


@pytest.mark.parametrize("train_all", [False, True])
def test_only_the_added_modules_move_unless_all_are_trained(detector, tmp_path, train_all):
    before = {name: value.clone() for name, value in detector.state_dict().items()}
    fine_tune_upgrade(detector, "scenes", FineTuneOptions(1, train_all=train_all), tmp_path / "run")
    moved = {name for name, value in detector.state_dict().items() if not torch.equal(value, before[name])}
    added = set(added_parameters(detector))
    assert moved & added
    assert (moved <= added) != train_all
    assert (tmp_path / "run" / "log.jsonl").exists()
