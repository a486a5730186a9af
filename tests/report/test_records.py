import dataclasses
import json

import pytest

from featlift.report.records import RunRecord, read_run


def write_run(folder, run):
    result = {"name": run.name, "metrics": run.metrics, "profile": dataclasses.asdict(run.profile)}
    content = {"result": result, "minutes": run.minutes, "settings": run.settings, **run.metadata}
    (folder / "result.json").write_text(json.dumps(content))


def test_a_run_comes_back_from_its_folder(tmp_path, runs):
    run = runs[1]
    write_run(tmp_path, run)
    (tmp_path / "log.jsonl").write_text("\n".join(json.dumps(line) for line in run.log))
    (tmp_path / "detections.json").write_text(json.dumps(run.detections))
    assert read_run(tmp_path) == run


def test_a_finished_training_is_read(tmp_path, runs):
    """A folder written by `featlift.training`."""
    from featlift.training import Run

    run = runs[1]
    with Run(tmp_path, run.settings, seed=7, device="cpu") as training:
        training.log({"stage": "gan", "step": 1, "discriminator": 0.5})
        training.write_result({"name": "afi", "metrics": run.metrics, "profile": run.profile}, "fingerprint")
    found = read_run(tmp_path)
    assert (found.name, found.metrics, found.profile) == ("afi", run.metrics, run.profile)
    assert found.scalar_curves() == {"gan": {"discriminator": {1: 0.5}}}
    assert found.settings["interpolator"] == "afi"
    assert (found.metadata["seed"], found.metadata["data"]) == (7, "fingerprint")
    assert "torch" in found.metadata["versions"]


def test_only_the_result_must_be_there(tmp_path):
    (tmp_path / "result.json").write_text("{}")
    assert read_run(str(tmp_path)) == RunRecord(tmp_path.name)


def test_a_cut_last_line_is_left_out_and_a_broken_one_named(tmp_path, runs):
    write_run(tmp_path, runs[0])
    log = tmp_path / "log.jsonl"
    log.write_text('{"step": 1, "a": 2}\n{"step": 2, "a"')
    assert len(read_run(tmp_path).log) == 1
    log.write_text('{"step": 1}\n{"st\n{"step": 3}\n')
    with pytest.raises(ValueError, match="line 2"):
        read_run(tmp_path)


def test_errors_teach(tmp_path):
    with pytest.raises(FileNotFoundError, match="Is this run finished"):
        read_run(tmp_path)
    (tmp_path / "result.json").write_text("{")
    with pytest.raises(ValueError, match=r"result\.json is not JSON"):
        read_run(tmp_path)


def test_curves_by_stage_resumed_steps_once():
    log = [
        {"stage": "gan", "step": 10, "discriminator": 1.0, "time": 3},
        {"stage": "gan", "step": 20, "discriminator": 9.0},
        {"stage": "gan", "step": 20, "discriminator": 2.0, "note": "resumed"},
        {"step": 5, "loss": 4.0},
    ]
    assert RunRecord("a", log=log).scalar_curves() == {
        "gan": {"discriminator": {10: 1.0, 20: 2.0}},
        "train": {"loss": {5: 4.0}},
    }
