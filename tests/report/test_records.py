import dataclasses
import json

import pytest

from featlift.report.records import RunRecord, read_run


def written(folder, **extra):
    result = {
        "name": "afi",
        "minutes": 3.5,
        "metrics": {"boxes": {"ap": 0.5}},
        "settings": {"a": 1},
        "metadata": {"seed": 0},
        **extra,
    }
    (folder / "result.json").write_text(json.dumps(result))
    return folder


def test_a_run_comes_back_from_its_folder(tmp_path, runs):
    run = runs[1]
    written(
        tmp_path,
        cost=dataclasses.asdict(run.cost),
        metrics=run.metrics,
        minutes=12.5,
        settings=run.settings,
        metadata=run.metadata,
    )
    (tmp_path / "log.jsonl").write_text("\n".join(json.dumps(line) for line in run.log))
    (tmp_path / "detections.json").write_text(json.dumps(run.detections))
    assert read_run(tmp_path) == run


def test_only_the_result_must_be_there(tmp_path):
    (tmp_path / "result.json").write_text("{}")
    assert read_run(str(tmp_path)) == RunRecord(tmp_path.name)


def test_a_cut_last_line_is_left_out_and_a_broken_one_named(tmp_path):
    written(tmp_path)
    log = tmp_path / "log.jsonl"
    log.write_text('{"step": 1, "a": 2}\n{"step": 2, "a"')
    assert len(read_run(tmp_path).log) == 1
    log.write_text('{"step": 1}\n{"st\n{"step": 3}\n')
    with pytest.raises(ValueError, match="line 2"):
        read_run(tmp_path)


def test_errors_teach(tmp_path):
    with pytest.raises(FileNotFoundError, match="Has this one been finished"):
        read_run(tmp_path)
    (tmp_path / "result.json").write_text("{")
    with pytest.raises(ValueError, match=r"result\.json is not JSON"):
        read_run(tmp_path)


def test_curves_by_stage_resumed_steps_once():
    log = [
        {"stage": "gan", "step": 10, "critic": 1.0, "time": 3},
        {"stage": "gan", "step": 20, "critic": 9.0},
        {"stage": "gan", "step": 20, "critic": 2.0, "note": "resumed"},
        {"step": 5, "loss": 4.0},
    ]
    assert RunRecord("a", log=log).curves() == {"gan": {"critic": {10: 1.0, 20: 2.0}}, "train": {"loss": {5: 4.0}}}
