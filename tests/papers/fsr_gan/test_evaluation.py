import json

import pytest

from featlift.cli import main
from featlift.data.synthetic.landmarks import write_synthetic_landmarks


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A training of two steps on six images of 48 px."""
    write_synthetic_landmarks(tmp_path / "places", num_landmarks=3, gallery_views=2, query_views=1, image_size=48)
    write_synthetic_landmarks(
        tmp_path / "known", num_landmarks=4, gallery_views=2, query_views=0, image_size=48, seed=1
    )
    monkeypatch.chdir(tmp_path)
    collection = [
        "--collection.name",
        "class-folders",
        "--collection.image_folder",
        "places",
        "--collection.train_images",
        "known",
    ]
    small = [
        "--embedder.input_size",
        "64",
        "--steps",
        "2",
        "--batch_size",
        "4",
        "--hidden_dim",
        "8",
        "--ratios",
        "[1, 4]",
    ]
    assert main.main(["train", "fsr-gan", "--run", "run", *collection, *small]) == 0
    return tmp_path / "run"


def test_evaluation_equals_the_result_of_the_run(run, capsys):
    capsys.readouterr()
    assert main.main(["evaluate", str(run)]) == 0
    found = json.loads((run / "curves" / "curves.json").read_text())
    result = json.loads((run / "result.json").read_text())["result"]
    assert found["map"]["super-resolved"] == result["map"]["fsr-gan"]
    assert found["short_side"] == {"1.0": 48, "4.0": 12}
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["downscale", "short", "side", "kilobits", "raw", "super-resolved"]
    assert lines[2].split()[:3] == ["4", "12", "px"]
    assert {file.name for file in (run / "curves").iterdir()} == {"curves.json", "map.png", "bits.png", "distance.png"}


def test_other_images_can_be_searched(run, tmp_path):
    write_synthetic_landmarks(
        tmp_path / "other", num_landmarks=2, gallery_views=1, query_views=1, image_size=64, seed=5
    )
    assert main.main(["evaluate", str(run), "--data", str(tmp_path / "other"), "--out", str(tmp_path / "out")]) == 0
    found = json.loads((tmp_path / "out" / "curves.json").read_text())
    assert found["short_side"]["1.0"] == 64
