import json

import pytest

from featlift.runs.refused import discard_refused_run


def begin(folder, files):
    folder.mkdir(parents=True, exist_ok=True)
    for file in files:
        (folder / file).write_text(json.dumps({}))
    raise ValueError("no")


def refuse(folder, *files):
    with pytest.raises(ValueError, match="no"), discard_refused_run(folder):
        begin(folder, files)


def test_a_refused_run_leaves_nothing(tmp_path):
    refuse(tmp_path / "some" / "run", "settings.json", "run.json", "data.txt")
    assert not list(tmp_path.iterdir())


def test_a_run_that_has_trained_stays(tmp_path):
    refuse(tmp_path / "run", "settings.json", "log.jsonl")
    assert (tmp_path / "run" / "log.jsonl").exists()


def test_a_folder_that_was_there_stays(tmp_path):
    (tmp_path / "run").mkdir()
    refuse(tmp_path / "run", "settings.json")
    assert (tmp_path / "run" / "settings.json").exists()


def test_other_runs_beside_it_stay(tmp_path):
    (tmp_path / "runs").mkdir()
    refuse(tmp_path / "runs" / "one", "settings.json")
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]


def test_only_the_first_process_removes(tmp_path, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    refuse(tmp_path / "run", "settings.json")
    assert (tmp_path / "run").exists()


def test_a_finished_run_stays(tmp_path):
    with discard_refused_run(tmp_path / "run"):
        (tmp_path / "run").mkdir()
    assert (tmp_path / "run").exists()
