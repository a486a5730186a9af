import json
import os
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
from torch import nn

from featlift.training import Run, fit


@dataclass
class Optimizer:
    lr: float = 0.1
    milestones: tuple[int, ...] = (2, 3)


@dataclass
class Settings:
    data: Path = Path("images")
    steps: int = 10
    optimizer: Optimizer = field(default_factory=Optimizer)


def test_settings_are_kept_as_json(tmp_path):
    Run(tmp_path / "new" / "run", Settings(), seed=4)
    stored = json.loads((tmp_path / "new" / "run" / "settings.json").read_text())
    optimizer = {"lr": 0.1, "milestones": [2, 3]}
    assert stored == {"data": "images", "steps": 10, "optimizer": optimizer, "seed": 4, "precision": "fp32"}


def test_the_same_settings_again_are_welcome(tmp_path):
    Run(tmp_path, Settings())
    Run(tmp_path, Settings(), save_every=3, log_every=1)


def test_a_run_that_never_got_to_a_checkpoint_is_begun_again(tmp_path):
    Run(tmp_path, Settings())
    Run(tmp_path, Settings(steps=20))
    assert json.loads((tmp_path / "settings.json").read_text())["steps"] == 20


def test_other_settings_are_refused_and_listed(tmp_path, make_training, batches):
    step, learners = make_training(1)
    fit(step, batches, 1, Run(tmp_path, Settings()), learners)
    with pytest.raises(ValueError) as error:
        Run(tmp_path, Settings(steps=20, optimizer=Optimizer(lr=0.2)), seed=1)
    text = str(error.value)
    for row in ("steps: 10 stored, 20 given", "optimizer.lr: 0.1 stored, 0.2 given", "seed: 0 stored, 1 given"):
        assert row in text
    assert "milestones" not in text
    assert "another folder" in text


def test_a_setting_of_a_later_version_that_is_off_is_no_change(tmp_path, make_training, batches):
    step, learners = make_training(1)
    fit(step, batches, 1, Run(tmp_path, {"steps": 1}), learners)
    Run(tmp_path, {"steps": 1, "data": {"fast_decode": False, "val_root": ""}})
    with pytest.raises(ValueError, match=r"data\.fast_decode: – stored, True given"):
        Run(tmp_path, {"steps": 1, "data": {"fast_decode": True}})
    with pytest.raises(ValueError, match="steps: 1 stored, – given"):
        Run(tmp_path, {})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"precision": "fp8"}, "Unknown precision 'fp8'; choose one of fp32, bf16, fp16"),
        ({"save_every": 0}, "save_every is 0"),
        ({"device": "cuda:99"}, "'cuda:99' is not available: PyTorch sees"),
    ],
)
def test_what_cannot_be_is_refused(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        Run(tmp_path, **options)
    assert not (tmp_path / "settings.json").exists()


def test_a_run_makes_what_is_built_next_the_same(tmp_path):
    weights = []
    for name in ("a", "b"):
        Run(tmp_path / name, seed=7)
        weights.append(nn.Linear(2, 2).weight)
    assert torch.equal(*weights)


def test_the_result_says_where_it_comes_from(tmp_path, make_training, batches):
    run = Run(tmp_path, Settings(), seed=2)
    step, learners = make_training(3)
    fit(step, batches, 3, run, learners, "one")
    run.write_result({"AP": torch.tensor(0.25)}, data_fingerprint="abc")
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["result"] == {"AP": 0.25}
    assert (result["data"], result["seed"], result["settings"]["steps"]) == ("abc", 2, 10)
    assert result["stages"]["one"]["step"] == result["stages"]["one"]["steps"] == 3
    assert result["minutes"] == result["stages"]["one"]["minutes"] > 0
    assert result["started"] <= result["finished"]
    assert result.keys() >= {"commit", "dirty", "versions", "device", "world_size"}


def test_a_line_that_was_truncated_is_skipped(tmp_path):
    run = Run(tmp_path)
    for step in (1, 2, 3):
        run.log({"stage": "a", "step": step, "loss": 0.5})
    run.log({"stage": "b", "step": 9, "loss": 0.5})
    with open(tmp_path / "log.jsonl", "a") as file:
        file.write('{"stage": "b", "st')
    run.truncate_log("a", 2)
    assert [(line["stage"], line["step"]) for line in run.read_log()] == [("a", 1), ("a", 2), ("b", 9)]
    assert [line["step"] for line in run.read_log("a")] == [1, 2]
    assert (tmp_path / "log.jsonl").read_text().endswith("}\n")


def test_the_tracker_gets_losses_and_results(tmp_path, make_training, batches):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with Run(tmp_path, log_every=1, tracker="tensorboard") as run:
        step, learners = make_training(2)
        fit(step, batches, 2, run, learners)
        run.write_result({"metrics": {"boxes": {"ap": 0.25}}})
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    logged = [event.value for event in events.Scalars("train/content")]
    assert logged == pytest.approx([line["content"] for line in run.read_log()])
    assert [event.value for event in events.Scalars("result/metrics.boxes.ap")] == [0.25]


def test_to_device_moves_teachers(tmp_path):
    module = nn.Linear(2, 2)
    assert Run(tmp_path).to_device(module) is module


def test_a_run_of_another_paper_is_named_and_not_listed(tmp_path, make_training, batches):
    step, learners = make_training(1)
    fit(step, batches, 1, Run(tmp_path, {"paper": "baseline", "steps": 1}), learners)
    with pytest.raises(ValueError, match=r"holds a run of baseline; give another --run\.$"):
        Run(tmp_path, {"paper": "efpn", "steps": 2})


def test_a_second_process_is_given_the_first(tmp_path):
    run = Run(tmp_path)
    read, write = os.pipe()
    if os.fork() == 0:
        try:
            Run(tmp_path)
        except OSError as error:
            os.write(write, str(error).encode())
        finally:
            os._exit(0)
    os.wait()
    os.close(write)
    message = os.read(read, 10_000).decode()
    assert f"{tmp_path} is being written by another run (process {os.getpid()} on " in message
    run.close()


def test_damaged_settings_are_named(tmp_path, make_training, batches):
    step, learners = make_training(1)
    with Run(tmp_path) as run:
        fit(step, batches, 1, run, learners)
    (tmp_path / "settings.json").write_text("")
    with pytest.raises(
        ValueError, match=r"settings\.json is damaged.*Delete this file to resume with the settings given"
    ):
        Run(tmp_path)
    (tmp_path / "settings.json").unlink()
    assert Run(tmp_path, {"lr": 1}).settings["lr"] == 1


def test_other_data_are_refused(tmp_path, make_training, batches):
    step, learners = make_training(4)
    batches.fingerprint = "a"
    with Run(tmp_path) as run:
        fit(step, batches, 2, run, learners)
    batches.fingerprint = "b"
    step, learners = make_training(4)
    with (
        Run(tmp_path) as run,
        pytest.raises(ValueError, match=r"was trained on other data: .*fingerprint a, .*now b\."),
    ):
        fit(step, batches, 4, run, learners)
