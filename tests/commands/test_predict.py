import json
import shutil

import pytest
import torch
from PIL import Image

from featlift.cli import main
from featlift.commands.predict import draw_predictions, find_images


@pytest.fixture
def folder(coco, tmp_path):
    """The pictures, and one that is broken."""
    shutil.copytree(coco, tmp_path / "pictures")
    (tmp_path / "pictures" / "broken.png").write_bytes(b"no picture at all")
    return tmp_path / "pictures"


def test_pictures_and_json_come_out(trained, coco, tmp_path, capsys):
    files = [str(path) for path in find_images([str(coco)])]
    assert len(files) == 4
    words = [str(trained["nearest"]), *files[:2], files[2], "--out", str(tmp_path / "out"), "--threshold", "0.0"]
    assert main.main(["predict", *words]) == 0
    found = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert [image["file_name"] for image in found["images"]] == files[:3]
    assert {"image_id", "category_id", "bbox", "score"} <= set(found["annotations"][0])
    assert found["skipped"] == []
    drawn = sorted((tmp_path / "out").glob("*.png"))
    assert [Image.open(path).size for path in drawn] == [(64, 64)] * 3
    assert "3 pictures" in capsys.readouterr().out


def test_a_broken_picture_stops_and_says_how_to_go_on(trained, folder, tmp_path, capsys):
    assert main.main(["predict", str(trained["nearest"]), str(folder), "--out", str(tmp_path / "out")]) == 1
    told = capsys.readouterr().err
    assert "broken.png" in told
    assert "--skip-broken goes on without it" in told


def test_a_broken_picture_is_listed(trained, folder, tmp_path):
    words = [str(trained["nearest"]), str(folder), "--out", str(tmp_path / "out"), "--skip-broken"]
    assert main.main(["predict", *words]) == 0
    found = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert len(found["images"]) == 4
    (skipped,) = found["skipped"]
    assert skipped["file"].endswith("broken.png")
    assert skipped["reason"]


def test_nothing_to_look_at(trained, tmp_path, capsys):
    for path, told in ((tmp_path / "nowhere", "There is no"), (tmp_path, "holds no picture")):
        assert main.main(["predict", str(trained["nearest"]), str(path)]) == 1
        assert told in capsys.readouterr().err


def test_only_what_scores_enough_is_drawn(tmp_path):
    found = {
        "boxes": torch.tensor([[4.0, 4.0, 20.0, 20.0], [30.0, 30.0, 50.0, 50.0]]),
        "labels": torch.tensor([1, 2]),
        "scores": torch.tensor([0.9, 0.3]),
        "masks": torch.zeros(2, 1, 64, 64),
    }
    found["masks"][0, :, 8:16, 8:16] = 1
    draw_predictions(torch.zeros(3, 64, 64), found, ["a", "b"], 0.5, tmp_path / "drawn.png")
    drawn = torch.tensor(list(Image.open(tmp_path / "drawn.png").getdata())).view(64, 64, 3)
    assert drawn[4:21, 4:21].sum() > 0
    assert drawn[10, 12].sum() > 0
    assert drawn[28:, 28:].sum() == 0
