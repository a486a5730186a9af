"""Written detections are read by pycocotools, and have its AP."""

import json

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from featlift.data.masks import mask_to_rle
from featlift.evaluation.coco_files import to_annotations, write_coco_file, write_coco_results

IMAGES = [
    {"id": 7, "file_name": "a.png", "height": 40, "width": 50},
    {"id": 99, "file_name": "b.png", "height": 40, "width": 50},
]
CATEGORIES = [{"id": 13, "name": "stop sign"}, {"id": 90, "name": "toothbrush"}]


@pytest.fixture
def detections():
    mask = np.zeros((40, 50), np.uint8)
    mask[10:20, 5:15] = 1
    mask[10, 5] = 0
    return [
        {"image_id": 7, "category_id": 13, "bbox": [5.0, 10.0, 10.0, 10.0], "score": 0.9, "segmentation": mask_to_rle(mask)},
        {"image_id": 99, "category_id": 90, "bbox": [1.0, 2.0, 3.0, 4.0], "score": 0.5, "mask_score": 0.1},
    ]  # fmt: skip


def test_a_full_file_is_opened_by_pycocotools(detections, tmp_path, capsys):
    coco = COCO(str(write_coco_file(tmp_path / "a.json", IMAGES, CATEGORIES, detections, skipped=[])))
    capsys.readouterr()
    assert [coco.cats[k]["name"] for k in (13, 90)] == ["stop sign", "toothbrush"]
    (first,), (second,) = coco.imgToAnns[7], coco.imgToAnns[99]
    assert (first["area"], first["score"], second["area"], second["id"]) == (99, 0.9, 12, 2)


def test_results_are_loaded_against_the_ground_truth(detections, tmp_path, capsys):
    truth = {"images": IMAGES, "categories": CATEGORIES, "annotations": to_annotations(detections)}
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    path = write_coco_results(tmp_path / "results.json", detections)
    assert [set(entry) for entry in json.loads(path.read_text())] == [
        {"image_id", "category_id", "bbox", "score", "segmentation"}, {"image_id", "category_id", "bbox", "score"},
    ]  # fmt: skip
    coco = COCO(str(tmp_path / "truth.json"))
    evaluation = COCOeval(coco, coco.loadRes(str(path)), "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    capsys.readouterr()
    assert evaluation.stats[0] == pytest.approx(1)
