import json

import pytest

from featlift.data.image_io import WRITTEN_FILE
from featlift.deployment.prediction_files import PredictionFiles

CATEGORIES = [{"id": 3, "name": "cat"}]


def result(image_id, score=0.5):
    return {"image_id": image_id, "category_id": 3, "bbox": [1.0, 2.0, 3.0, 4.0], "score": score}


def test_pycocotools_reads_both_files(tmp_path, capsys):
    coco = pytest.importorskip("pycocotools.coco")
    with PredictionFiles(tmp_path, CATEGORIES) as files:
        files.add_image("a.png", (20, 30), [result(1), result(1, 0.9)])
        files.add_image("caf\udce9.png", (20, 30), [])
        files.add_image("b.png", (20, 30), [result(3)], frame=7)
        files.add_skipped("c.png", "broken")
    predictions = coco.COCO(str(tmp_path / "predictions.json"))
    assert [image["id"] for image in predictions.dataset["images"]] == [1, 2, 3]
    assert [(a["id"], a["image_id"], a["area"]) for a in predictions.dataset["annotations"]] == [
        (1, 1, 12),
        (2, 1, 12),
        (3, 3, 12),
    ]
    assert predictions.dataset["images"][1]["file_name"] == "caf\udce9.png"
    assert predictions.dataset["skipped"] == [{"file": "c.png", "reason": "broken"}]
    assert len(predictions.loadRes(str(tmp_path / "results.json")).anns) == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == [WRITTEN_FILE, "predictions.json", "results.json"]


def test_nothing_was_predicted(tmp_path):
    with PredictionFiles(tmp_path, CATEGORIES):
        pass
    assert json.loads((tmp_path / "results.json").read_text()) == []
    assert json.loads((tmp_path / "predictions.json").read_text())["images"] == []


def test_an_error_keeps_what_was_predicted(tmp_path):
    files = PredictionFiles(tmp_path, CATEGORIES)
    with pytest.raises(RuntimeError), files:
        _add_and_fail(files)
    assert len(json.loads((tmp_path / "results.json").read_text())) == 1


def _add_and_fail(files):
    files.add_image("a.png", (20, 30), [result(1)])
    raise RuntimeError


def test_earlier_files_are_removed_and_others_kept(tmp_path):
    out = tmp_path / "out"
    with PredictionFiles(out, CATEGORIES) as files:
        files.add_file(out / "labels/a.txt").write_text("0")
    (out / "mine.txt").write_text("")
    (tmp_path / "outside.txt").write_text("")
    with open(out / WRITTEN_FILE, "a") as file:
        file.write("../outside.txt\n")
    with PredictionFiles(out, CATEGORIES):
        assert not (out / "labels/a.txt").exists()
    assert (out / "mine.txt").exists()
    assert (tmp_path / "outside.txt").exists()
