"""Files for COCO's server: the zip holds one JSON file of COCO's name, with COCO's ids."""

import json
import zipfile

import numpy as np
import pytest
from pycocotools.coco import COCO

from featlift.cli import main
from featlift.data.masks import mask_to_rle
from featlift.runs.submission import write_submissions


@pytest.fixture
def test_dev(coco, tmp_path):
    """The validation images of ``coco`` as test-dev: no annotations, images in ``test2017``."""
    root = tmp_path / "coco"
    (root / "annotations").mkdir(parents=True)
    (root / "test2017").symlink_to(coco / "val")
    truth = json.loads((coco / "instances_val.json").read_text())
    for category in truth["categories"]:
        category["id"] = 10 * category["id"] + 3
    info = {key: truth[key] for key in ("images", "categories")}
    (root / "annotations" / "image_info_test-dev2017.json").write_text(json.dumps(info))
    return root


def test_test_dev_is_submitted(trained, test_dev, tmp_path, capsys):
    words = ["--data", str(test_dev), "--split", "test-dev", "--out", str(tmp_path / "out")]
    assert main.main(["evaluate", str(trained["nearest"]), *words, "--submit"]) == 0
    (path,) = (tmp_path / "out").iterdir()
    assert path.name == "detections_test-dev2017_out_results-bbox.zip"
    assert str(path) in capsys.readouterr().out
    with zipfile.ZipFile(path) as file:
        assert file.namelist() == ["detections_test-dev2017_out_results.json"]
        results = json.loads(file.read(file.namelist()[0]))
    info = COCO(str(test_dev / "annotations" / "image_info_test-dev2017.json"))
    assert results
    assert all(set(result) == {"image_id", "category_id", "bbox", "score"} for result in results)
    assert {result["image_id"] for result in results} <= set(info.imgs)
    assert {result["category_id"] for result in results} <= set(info.cats)


def test_test_dev_without_submit_is_refused(trained, test_dev, capsys):
    assert main.main(["evaluate", str(trained["nearest"]), "--data", str(test_dev), "--split", "test-dev"]) == 1
    assert "--submit writes the file" in capsys.readouterr().err


def test_masks_have_a_file_of_their_own(tmp_path):
    rle = mask_to_rle(np.eye(4, dtype=np.uint8))
    detection = {
        "image_id": 1,
        "category_id": 90,
        "bbox": [0, 0, 4, 4],
        "score": 0.5,
        "mask_score": 0.25,
        "segmentation": rle,
    }
    boxes, masks = write_submissions(tmp_path, "val2017", "mine", [detection])
    read = [json.loads(zipfile.ZipFile(path).read("detections_val2017_mine_results.json")) for path in (boxes, masks)]
    assert read[0] == [{"image_id": 1, "category_id": 90, "bbox": [0, 0, 4, 4], "score": 0.5}]
    assert read[1] == [{"image_id": 1, "category_id": 90, "segmentation": rle, "score": 0.25}]
