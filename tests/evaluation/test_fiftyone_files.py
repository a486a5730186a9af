import json

from featlift.evaluation.fiftyone_files import write_fiftyone_labels, write_fiftyone_manifest

TRUTH = {
    "images": [{"id": 7, "width": 200, "height": 100}, {"id": 9, "width": 50, "height": 40}],
    "categories": [{"id": 3, "name": "cat"}, {"id": 8, "name": "dog"}],
    "annotations": [{"id": 1, "image_id": 7, "category_id": 8, "bbox": [20, 10, 40, 30]}],
}


def test_boxes_are_fractions_and_classes_are_names(tmp_path):
    found = {"image_id": 7, "category_id": 3, "bbox": [100.0, 50.0, 50.0, 25.0], "score": 0.75}
    pairs = [(TRUTH["annotations"][0], {}), (found, {"outcome": "gained"})]
    content = json.loads(write_fiftyone_labels(tmp_path / "labels.json", TRUTH, pairs).read_text())
    assert content["classes"] == ["cat", "dog"]
    assert content["labels"]["7"] == [
        {"label": "dog", "bounding_box": [0.1, 0.1, 0.2, 0.3], "attributes": {}},
        {
            "label": "cat",
            "bounding_box": [0.5, 0.5, 0.25, 0.25],
            "attributes": {"outcome": "gained"},
            "confidence": 0.75,
        },
    ]
    assert content["labels"]["9"] == []


def test_the_manifest_maps_ids_to_files(tmp_path):
    path = write_fiftyone_manifest(tmp_path, {7: "data/7.png", 9: tmp_path / "9.jpg"})
    assert path.name == "data.json"
    assert json.loads(path.read_text()) == {"7": "data/7.png", "9": str(tmp_path / "9.jpg")}
