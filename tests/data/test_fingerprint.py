import json

import pytest

from featlift.data.coco import open_coco_split
from featlift.data.coco_folders import write_synthetic_dataset
from featlift.data.crops import DatasetSubset
from featlift.data.fingerprint import dataset_fingerprint
from featlift.data.synthetic.scenes import SyntheticScenes


def test_equal_data_have_equal_fingerprints():
    assert dataset_fingerprint(SyntheticScenes(50)) == dataset_fingerprint(SyntheticScenes(50))
    assert len(dataset_fingerprint(SyntheticScenes(50))) == 16


def test_every_setting_of_scenes_counts():
    settings = [
        {},
        {"seed": 1},
        {"image_size": (160, 161)},
        {"num_objects": (8, 15)},
        {"object_sizes": (6, 39)},
        {"first_index": 1},
    ]
    settings.append({"classes": ("down", "up")})
    prints = {dataset_fingerprint(SyntheticScenes(5, **changes)) for changes in settings} | {
        dataset_fingerprint(SyntheticScenes(6))
    }
    assert len(prints) == len(settings) + 1


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    write_synthetic_dataset(tmp_path_factory.mktemp("a") / "set", num_train=2, num_val=1, image_size=(64, 64))
    return next(tmp_path_factory.getbasetemp().glob("a*")) / "set"


def entries_of_image(document, image_id):
    """Entries that refer to image ``image_id``, with the key."""
    entries = [(image, "id") for image in document["images"]] + [(a, "image_id") for a in document["annotations"]]
    return [(entry, key) for entry, key in entries if entry[key] == image_id]


CHANGES = {
    "box": lambda d: d["annotations"][0]["bbox"].__setitem__(2, d["annotations"][0]["bbox"][2] - 1),
    "class": lambda d: d["annotations"][0].update(category_id=d["annotations"][0]["category_id"] % 6 + 1),
    "crowd": lambda d: d["annotations"][0].update(iscrowd=1),
    "id": lambda d: [entry.update({key: 77}) for entry, key in entries_of_image(d, 2)],
    "object": lambda d: d["annotations"].pop(),
    "name": lambda d: d["categories"][0].update(name="tree"),
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_every_fact_of_a_folder_counts(folder, change):
    file = folder / "instances_train.json"
    before, text = dataset_fingerprint(open_coco_split(folder, "train")), file.read_text()
    document = json.loads(text)
    try:
        change(document)
        file.write_text(json.dumps(document))
        assert dataset_fingerprint(open_coco_split(folder, "train")) != before
    finally:
        file.write_text(text)
    assert dataset_fingerprint(open_coco_split(folder, "train")) == before


def test_the_order_of_annotations_does_not_count(folder):
    file = folder / "instances_train.json"
    before, document = dataset_fingerprint(open_coco_split(folder, "train")), json.loads(file.read_text())
    document["annotations"].reverse()
    file.write_text(json.dumps(document))
    assert dataset_fingerprint(open_coco_split(folder, "train")) == before


def test_a_subset_of_scenes_is_identified_without_rendering_all(monkeypatch):
    scenes, rendered = SyntheticScenes(50), []
    render = SyntheticScenes.render
    monkeypatch.setattr(SyntheticScenes, "render", lambda self, i: rendered.append(i) or render(self, i))
    prints = [dataset_fingerprint(DatasetSubset(scenes, indices)) for indices in ([1, 2], [1, 3], [1, 2])]
    assert prints[0] == prints[2] != prints[1]
    assert dataset_fingerprint(scenes) not in prints
    assert set(rendered) == {0}


def test_a_subset_of_a_subset_is_that_of_its_images():
    scenes = SyntheticScenes(50)
    nested = DatasetSubset(DatasetSubset(scenes, [3, 5, 8]), [2, 0])
    assert dataset_fingerprint(nested) == dataset_fingerprint(DatasetSubset(scenes, [8, 3]))
    assert dataset_fingerprint(nested) != dataset_fingerprint(DatasetSubset(scenes, [3, 8]))


def test_a_subset_of_a_folder_is_identified_by_its_ground_truth(folder):
    dataset = open_coco_split(folder, "train")
    assert dataset_fingerprint(DatasetSubset(dataset, [0, 1])) == dataset_fingerprint(dataset)
    assert dataset_fingerprint(DatasetSubset(dataset, [0])) != dataset_fingerprint(dataset)


def test_fingerprints_stay_those_of_earlier_versions():
    assert dataset_fingerprint(SyntheticScenes(3, (64, 64))) == "0bc0351fca55cea5"
    assert dataset_fingerprint(DatasetSubset(SyntheticScenes(3, (64, 64)), [2])) == "34ff4bed48055162"
