"""Stored results of runs."""

import pytest

from featlift.runs.results import read_paper, read_result


def test_a_folder_that_is_no_run(tmp_path):
    with pytest.raises(FileNotFoundError, match="it is not a run, or not finished"):
        read_result(tmp_path)


def test_the_paper_of_a_run(trained, tmp_path):
    assert read_paper(trained["nearest"]) == "baseline"
    (tmp_path / "settings.json").write_text('{"paper": "fdsr"}')
    assert read_paper(tmp_path) == "fdsr"


def test_anything_else_is_a_baseline_detector(trained, tmp_path):
    assert read_paper(trained["nearest"] / "detector.safetensors") == read_paper(tmp_path / "nothing") == "baseline"
    (tmp_path / "settings.json").write_text("{}")
    assert read_paper(tmp_path) == "baseline"
