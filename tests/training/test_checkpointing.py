import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from featlift.training import Run, checkpointing, fit

WORKERS = Path(__file__).parent / "workers.py"


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The folder of two runs of two stages, "uninterrupted" and "killed" many times, and the number of kills."""
    folder = tmp_path_factory.mktemp("runs")
    done = subprocess.run([sys.executable, WORKERS, "killed", folder], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder, int(done.stdout.split("deaths")[-1])


def test_a_run_killed_at_any_line_and_resumed_is_the_unbroken_one(runs):
    folder, deaths = runs
    assert deaths >= 8, "it has to have been killed often"
    assert (folder / "killed" / "log.jsonl").read_text() == (folder / "uninterrupted" / "log.jsonl").read_text()
    results = [json.loads((folder / name / "result.json").read_text()) for name in ("killed", "uninterrupted")]
    assert results[0]["result"] == results[1]["result"]


def test_two_checkpoints_are_kept_and_nothing_half_done(runs):
    for name in ("killed", "uninterrupted"):
        last = sorted(path.name for path in (runs[0] / name / "checkpoint" / "second").iterdir())
        assert last == ["step-00000020", "step-00000024"]


def test_a_half_written_checkpoint_is_not_one(tmp_path):
    (tmp_path / "writing-step-00000009").mkdir()
    assert checkpointing.latest_checkpoint(tmp_path) is None


def test_other_learners_are_refused(tmp_path, make_training, batches):
    step, learners = make_training(2)
    fit(step, batches, 2, Run(tmp_path), learners)
    with pytest.raises(ValueError, match=r"holds the learners discriminator, generator, but generator are trained now"):
        checkpointing.load_checkpoint(
            checkpointing.latest_checkpoint(tmp_path / "checkpoint" / "train"), {"generator": learners["generator"]}
        )


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
def test_everything_a_learner_knows_comes_back(tmp_path, make_training, batches, optimizer):
    options = {"name": optimizer, "accumulation_steps": 4, "ema_decay": 0.5, "lr": 0.01, "schedule": "cosine"}
    step, learners = make_training(20, **options)
    fit(step, batches, 7, Run(tmp_path), learners)
    again = make_training(20, **options)[1]
    checkpointing.load_checkpoint(checkpointing.latest_checkpoint(tmp_path / "checkpoint" / "train"), again)
    for name, learner in learners.items():
        assert again[name].scalar_state() == learner.scalar_state()
        old, new = flat(learner.tensor_state()), flat(again[name].tensor_state())
        assert old.keys() == new.keys()
        assert all(torch.equal(old[key], new[key]) for key in old)
    assert learners["generator"].num_accumulated == 3, "accumulated gradients must be restored, too"


def test_lost_parameters_do_not_replace_good_ones(tmp_path, make_training, batches):
    step, learners = make_training(4)
    run = Run(tmp_path, save_every=2)

    def poisoned(images, targets):
        losses = step(images, targets)
        if learners["discriminator"].num_calls == 4:
            learners["discriminator"].module.bias.data.fill_(float("inf"))
        return losses

    with pytest.raises(
        FloatingPointError, match=r"discriminator was not saved: bias.*step-00000002 is the last good state"
    ):
        fit(poisoned, batches, 4, run, learners)
    assert [path.name for path in (tmp_path / "checkpoint" / "train").iterdir()] == ["step-00000002"]


def test_before_the_first_update_no_momentum_is_invented(tmp_path, make_training, batches):
    step, learners = make_training(20, accumulation_steps=5)
    fit(step, batches, 2, Run(tmp_path), learners)
    again = make_training(20, accumulation_steps=5)[1]
    checkpointing.load_checkpoint(checkpointing.latest_checkpoint(tmp_path / "checkpoint" / "train"), again)
    assert not again["generator"].optimizer.state
    assert again["discriminator"].optimizer.state


def flat(value, prefix=""):
    if not isinstance(value, dict):
        return {prefix: value}
    return {key: item for name, inner in value.items() for key, item in flat(inner, f"{prefix}/{name}").items()}
