import json
import shutil

import pytest
from PIL import Image

from featlift.cli import main
from featlift.deployment.prediction import find_images


@pytest.fixture
def folder(coco, tmp_path):
    """The images of ``coco``, and a broken one."""
    shutil.copytree(coco, tmp_path / "images")
    (tmp_path / "images" / "broken.png").write_bytes(b"not an image")
    return tmp_path / "images"


def test_images_and_json_are_written(trained, coco, tmp_path, capsys):
    files = [str(path) for path in find_images([str(coco)])]
    assert len(files) == 4
    words = [str(trained["nearest"]), *files[:2], files[2], "--out", str(tmp_path / "out"), "--score-threshold", "0.0"]
    assert main.main(["predict", *words]) == 0
    results = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert [image["file_name"] for image in results["images"]] == files[:3]
    assert {"image_id", "category_id", "bbox", "score"} <= set(results["annotations"][0])
    assert results["skipped"] == []
    drawn = sorted((tmp_path / "out").glob("*.png"))
    assert [Image.open(path).size for path in drawn] == [(64, 64)] * 3
    assert "3 images" in capsys.readouterr().out


def test_a_broken_image_stops_and_says_how_to_go_on(trained, folder, tmp_path, capsys):
    assert main.main(["predict", str(trained["nearest"]), str(folder), "--out", str(tmp_path / "out")]) == 1
    printed = capsys.readouterr().err
    assert "broken.png" in printed
    assert "--skip-broken skips unreadable images" in printed


def test_a_broken_image_is_listed(trained, folder, tmp_path):
    words = [str(trained["nearest"]), str(folder), "--out", str(tmp_path / "out"), "--skip-broken"]
    assert main.main(["predict", *words]) == 0
    results = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert len(results["images"]) == 4
    (skipped,) = results["skipped"]
    assert skipped["file"].endswith("broken.png")
    assert skipped["reason"]


def test_no_image(trained, tmp_path, capsys):
    for path, message in ((tmp_path / "nowhere", "does not exist"), (tmp_path, "contains no image")):
        assert main.main(["predict", str(trained["nearest"]), str(path)]) == 1
        assert message in capsys.readouterr().err


@pytest.mark.parametrize("threshold", ["5", "-0.1"])
def test_a_threshold_outside_the_scores_is_refused(tmp_path, capsys, threshold):
    out = str(tmp_path / "out")
    assert main.main(["predict", "nowhere", "a.png", f"--score-threshold={threshold}", "--out", out]) == 1
    assert "scores are between 0 and 1" in capsys.readouterr().err
