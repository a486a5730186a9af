from dataclasses import replace
from pathlib import Path

import pytest

from featlift.cli import main
from featlift.commands.benchmark import DEFAULT_CANDIDATES
from featlift.data.config import DataConfig
from featlift.papers import afi_gan
from featlift.papers.afi_gan.settings import STAGES, AdversarialConfig
from featlift.training import OptimizerConfig
from featlift.training.schedules import StageConfig

QUICK = afi_gan.Settings.quick()


def tiny():
    """One or two steps per stage and no discriminator, which would take most of the time."""
    head = {"anchor_scale": 4.0, "fc_dim": 16, "num_proposals": 20}
    model = replace(
        QUICK.model, pyramid_channels=8, interpolator_options={"growth_rate": 4, "num_blocks": 1}, detector_options=head
    )
    stages = {name: StageConfig(1 + i % 2, OptimizerConfig(lr=0.01)) for i, name in enumerate(STAGES)}
    data = DataConfig(batch_size=2, min_size=(), num_workers=0, num_scenes=4, scene_size=64, num_val_scenes=3)
    return replace(QUICK, model=model, data=data, adversarial=AdversarialConfig(weight=0.0), **stages)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("afi:alone", "ends in ':alone'"),
        ("aif", "Did you mean 'afi'"),
        ("afi afi", "Give each interpolator once"),
        ("afi --num-seeds 0", "at least one seed"),
        ("afi --preset fast", "choose one of paper, quick"),
    ],
)
def test_errors_are_a_sentence_and_leave_nothing(words, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main.main(["benchmark", *words.split()]) == 1
    assert message in capsys.readouterr().err
    assert not list(Path().iterdir())


def test_the_default_candidates_include_the_controls():
    assert DEFAULT_CANDIDATES[0] == "nearest:plain"
    assert {"nearest", "bilinear", "deconv", "dysample", "carafe"} < set(DEFAULT_CANDIDATES)
