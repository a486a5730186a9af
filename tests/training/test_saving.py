import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from featlift.training import Run, fit, saving

WORKERS = Path(__file__).parent / "workers.py"


def work(*arguments: object) -> str:
    done = subprocess.run([sys.executable, str(WORKERS), *map(str, arguments)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("unbroken")
    work("unbroken", folder)
    return folder


@pytest.mark.parametrize("seed", [1, 2])
def test_a_run_killed_at_any_line_and_resumed_is_the_unbroken_one(tmp_path, whole, seed):
    out = work("killed", tmp_path, seed)
    assert int(out.split("deaths")[-1]) >= 5, "it has to have been killed often"
    assert (tmp_path / "log.jsonl").read_text() == (whole / "log.jsonl").read_text()
    results = [json.loads((folder / "result.json").read_text()) for folder in (tmp_path, whole)]
    assert results[0]["result"] == results[1]["result"]


def test_two_checkpoints_are_kept_and_nothing_half_done(whole):
    assert sorted(path.name for path in (whole / "checkpoint" / "second").iterdir()) == ["step-00000020", "step-00000024"]


def test_a_half_written_checkpoint_is_not_one(tmp_path):
    (tmp_path / "writing-step-00000009").mkdir()
    assert saving.newest(tmp_path) is None


def test_other_learners_are_refused(tmp_path, play, batches):
    step, learners = play(2)
    fit(step, batches, 2, Run(tmp_path), learners)
    with pytest.raises(ValueError, match=r"holds the learners critic, generator, but generator are trained now"):
        saving.load(saving.newest(tmp_path / "checkpoint" / "train"), {"generator": learners["generator"]})


@pytest.mark.parametrize("optimiser", ["sgd", "adam", "adamw"])
def test_everything_a_learner_knows_comes_back(tmp_path, play, batches, optimiser):
    options = {"optimiser": optimiser, "accumulate": 4, "ema": 0.5, "rate": 0.01, "schedule": "cosine"}
    step, learners = play(20, **options)
    fit(step, batches, 7, Run(tmp_path), learners)
    again = play(20, **options)[1]
    saving.load(saving.newest(tmp_path / "checkpoint" / "train"), again)
    for name, learner in learners.items():
        assert again[name].counts() == learner.counts()
        old, new = flat(learner.tensors()), flat(again[name].tensors())
        assert old.keys() == new.keys()
        assert all(torch.equal(old[key], new[key]) for key in old)
    assert learners["generator"].gathered == 3, "gradients that are still being gathered must be among them"


def test_before_the_first_update_there_is_no_momentum_to_invent(tmp_path, play, batches):
    step, learners = play(20, accumulate=5)
    fit(step, batches, 2, Run(tmp_path), learners)
    assert not learners["generator"].optimiser.state


def flat(value, prefix=""):
    if not isinstance(value, dict):
        return {prefix: value}
    return {key: item for name, inner in value.items() for key, item in flat(inner, f"{prefix}/{name}").items()}
