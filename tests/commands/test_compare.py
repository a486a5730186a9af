import json
from pathlib import Path

from featlift.cli import main


def test_two_runs_side_by_side(trained, tmp_path, capsys):
    words = [str(trained["nearest"]), str(trained["bilinear"]), "--out", str(tmp_path), "--n-resamples", "20"]
    assert main.main(["compare", *words, "--save-fiftyone"]) == 0
    printed = capsys.readouterr().out
    for row in ("nearest", "bilinear", "ap boxes", "ap tiny boxes", "parameters", "ms per image", "minutes"):
        assert row in printed
    page = (tmp_path / "report.html").read_text()
    assert "nearest" in page
    assert "data:image/" in page
    assert 'src="http' not in page
    labels = json.loads((tmp_path / "fiftyone" / "ground_truth.json").read_text())["labels"]
    images = json.loads((tmp_path / "fiftyone" / "data.json").read_text())
    assert set(images) == set(labels)
    assert all(Path(path).is_file() for path in images.values())


def test_a_folder_that_is_no_run(trained, tmp_path, capsys):
    assert main.main(["compare", str(trained["nearest"]), str(tmp_path)]) == 1
    assert "has no result.json" in capsys.readouterr().err
