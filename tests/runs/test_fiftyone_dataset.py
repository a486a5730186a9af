import json
from pathlib import Path

import numpy as np
from PIL import Image

from featlift.data.coco import CocoDataset
from featlift.data.crops import DatasetSubset
from featlift.evaluation.object_changes import compare_objects
from featlift.runs.fiftyone_dataset import write_fiftyone_dataset

SIDE = 100


def make_dataset(folder):
    """An image with ids 5 (image) and 3, 4 (classes), an object of each class, and a crowd region."""
    Image.fromarray(np.full((SIDE, SIDE, 3), 60, np.uint8)).save(folder / "a.png")
    boxes = [([10, 10, 10, 10], 3, 0), ([40, 40, 20, 20], 4, 0), ([70, 70, 20, 20], 4, 1)]
    document = {
        "images": [{"id": 5, "file_name": "a.png", "width": SIDE, "height": SIDE}],
        "categories": [{"id": 3, "name": "cat"}, {"id": 4, "name": "dog"}],
        "annotations": [
            {"id": k, "image_id": 5, "category_id": label, "bbox": box, "area": box[2] * box[3], "iscrowd": crowd}
            for k, (box, label, crowd) in enumerate(boxes, 1)
        ],
    }
    (folder / "a.json").write_text(json.dumps(document))
    return CocoDataset(folder / "a.json", folder)


def detection(box, label, score):
    return {"image_id": 5, "category_id": label, "bbox": box, "score": score}


def read(path):
    return json.loads(path.read_text())["labels"]["5"]


def test_objects_and_detections_say_whether_they_are_gained_or_lost(tmp_path):
    dataset = make_dataset(tmp_path)
    first = [detection([40, 40, 20, 20], 4, 0.9), detection([0, 80, 9, 9], 3, 0.8), detection([0, 0, 5, 5], 3, 0.2)]
    second = [detection([10, 10, 10, 8], 3, 0.7)]
    changes = compare_objects(dataset.coco(), first, second, score_thresholds=(0.5, 0.5))
    folder = write_fiftyone_dataset(tmp_path / "out", dataset, changes, (first, second))
    cat, dog, crowd = read(folder / "ground_truth.json")
    assert (cat["label"], cat["attributes"]["outcome"], cat["attributes"]["iou_second"]) == ("cat", "gained", 0.8)
    assert (dog["label"], dog["attributes"]["outcome"], dog["attributes"]["iou_first"]) == ("dog", "lost", 1.0)
    assert crowd["attributes"] == {"iscrowd": 1}
    outcomes = [each["attributes"]["outcome"] for each in read(folder / "first.json")]
    assert outcomes == ["lost", "unmatched", "below threshold"]
    assert [each["attributes"]["outcome"] for each in read(folder / "second.json")] == ["gained"]
    assert json.loads((folder / "data.json").read_text()) == {"5": str((tmp_path / "a.png").resolve())}


def test_images_without_a_file_are_written(tmp_path):
    dataset = make_dataset(tmp_path)
    changes = compare_objects(dataset.coco(), [], [], score_thresholds=(0.5, 0.5))
    folder = write_fiftyone_dataset(tmp_path / "out", DatasetSubset(dataset, [0]), changes, ([], []))
    path = Path(json.loads((folder / "data.json").read_text())["5"])
    assert np.array_equal(np.asarray(Image.open(folder / path)), np.full((SIDE, SIDE, 3), 60, np.uint8))
