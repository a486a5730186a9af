"""Comparisons that cannot be made, and one without a difference."""

import shutil

from featlift.cli import main


def test_a_run_against_itself_gains_nothing(trained, tmp_path, capsys):
    shutil.copytree(trained["nearest"], tmp_path / "copy")
    words = [str(trained["nearest"]), str(tmp_path / "copy"), "--out", str(tmp_path), "--n-resamples", "20"]
    assert main.main(["compare", *words]) == 0
    printed = capsys.readouterr().out
    assert "+0.0 [+0.0, +0.0]" in printed
    assert "copy" in printed


def test_runs_on_other_images_are_refused(trained, tmp_path, capsys):
    shutil.copytree(trained["nearest"], tmp_path / "copy")
    path = tmp_path / "copy" / "result.json"
    path.write_text(path.read_text().replace('"data": "', '"data": "other-', 1))
    assert main.main(["compare", str(trained["nearest"]), str(tmp_path / "copy")]) == 1
    assert "Only runs on the same images can be compared" in capsys.readouterr().err
