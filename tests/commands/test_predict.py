import json
import shutil

import pytest
import torch
from PIL import Image

from featlift.cli import main
from featlift.deployment.prediction import draw_predictions, find_images


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


def test_only_what_scores_enough_is_drawn(tmp_path):
    detections = {
        "boxes": torch.tensor([[4.0, 4.0, 20.0, 20.0], [30.0, 30.0, 50.0, 50.0]]),
        "labels": torch.tensor([1, 2]),
        "scores": torch.tensor([0.9, 0.3]),
        "masks": torch.zeros(2, 1, 64, 64),
    }
    detections["masks"][0, :, 8:16, 8:16] = 1
    draw_predictions(torch.zeros(3, 64, 64), detections, ["a", "b"], 0.5, tmp_path / "drawn.png")
    drawn = torch.tensor(list(Image.open(tmp_path / "drawn.png").getdata())).view(64, 64, 3)
    assert drawn[4:21, 4:21].sum() > 0
    assert drawn[10, 12].sum() > 0
    assert drawn[28:, 28:].sum() == 0
