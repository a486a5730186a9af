from dataclasses import replace

import pytest
import torch

from featlift import baseline
from featlift.baseline import Settings, training
from featlift.detectors.config import build_detector
from featlift.training import OptimizerConfig
from featlift.training.schedules import StageConfig


def test_init_from_is_loaded(run, model, data, stage, tmp_path, monkeypatch, capsys):
    first = Settings(model("nearest"), data(), stage())
    with run(first, "first") as folder:
        expected = {k: v.clone() for k, v in baseline.train(first, folder).state_dict().items()}
    states = []
    monkeypatch.setattr(
        training,
        "train_detector",
        lambda detector, *rest: states.append({k: v.clone() for k, v in detector.state_dict().items()}),
    )
    second = replace(first, init_from=str(tmp_path / "first"))
    with run(second, "second") as folder:
        baseline.train(second, folder)
    assert all(torch.equal(states[0][name], value) for name, value in expected.items())
    assert f"{len(expected)} of {len(expected)} tensors are copied from {tmp_path / 'first'}" in capsys.readouterr().out


def test_a_finished_training_is_only_loaded(run, model, data, stage):
    config = Settings(model("nearest"), data(), stage(2))
    first = baseline.train(config, run(config))
    again = run(config)
    second = baseline.train(config, again)
    assert all(
        torch.equal(a, b) for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    )
    assert [line["step"] for line in again.read_log()] == [1, 2]


def test_the_papers_schedule():
    paper = Settings()
    assert (paper.train.steps, paper.data.batch_size) == (90_000, 16)
    rates = [paper.train.optimizer.lr_at(step, 90_000) for step in (1_000, 59_999, 60_000, 79_999, 80_000)]
    assert rates == pytest.approx([0.02, 0.02, 0.002, 0.002, 0.0002])
    assert paper.data.min_size == (640, 672, 704, 736, 768, 800)
    assert paper.data.max_size == 1333
    assert paper.model.detector_options == {"test_size": [800, 1333]}
    assert (paper.model.detector, paper.model.norm, paper.model.frozen_stages) == ("mask-rcnn", "frozen", 2)


def test_the_paper_has_no_preset_of_published_code():
    assert not hasattr(Settings, "official")


def test_quick_is_small():
    quick = Settings.quick()
    assert (quick.model.pyramid_channels, quick.model.backbone_weights, quick.data.root, quick.data.scene_size) == (
        64,
        "random",
        "scenes",
        160,
    )
    T = build_detector(quick.model, 6)
    assert sum(p.numel() for p in T.parameters()) < 8_000_000


def test_training_lowers_the_loss_on_the_same_images(run, model, data):
    """25 steps on two scenes: the sum of the losses must decrease."""
    config = Settings(
        model("nearest"), data(num_scenes=2, hflip_prob=0.0), StageConfig(25, OptimizerConfig("adamw", lr=3e-3))
    )
    folder = run(config)
    baseline.train(config, folder)
    totals = [sum(v for k, v in line.items() if k.startswith("loss")) for line in folder.read_log("train")]
    assert sum(totals[-3:]) < 0.8 * sum(totals[:3])
