"""Train and val agree, and a run is resumed only on its data."""

import json

import pytest

from featlift.data.config import DataConfig, load_training_set
from featlift.data.run_data import read_run_category_ids, read_run_classes, record_run_data
from featlift.data.synthetic.scenes import SyntheticScenes
from featlift.training import Run

BOX = {"image_id": 1, "category_id": 1, "iscrowd": 0}


@pytest.fixture
def open_root(tmp_path, write_folder):
    return lambda prepare=None: make_root(tmp_path, write_folder, prepare)


def make_root(tmp_path, write_folder, prepare):
    categories = ({"id": 7, "name": "cat"}, {"id": 3, "name": "dog"})
    boxes = [
        {**BOX, "category_id": 7, "bbox": [5, 6, 20, 10]},
        {**BOX, "image_id": 2, "category_id": 3, "bbox": [5, 6, 9, 9]},
    ]

    def with_ids(root, split, document):
        for annotation in document["annotations"]:
            annotation["category_id"] = max(annotation["category_id"], 3)
        if prepare:
            prepare(split, document)

    return write_folder(tmp_path / "set", boxes, with_ids, categories)


class Begun(Run):
    """A run that has taken a step."""

    def stage_progress(self):
        return {"train": 1}


def edit(root, change):
    path = root / "instances_train.json"
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def test_classes_and_ids_are_recorded(tmp_path, open_root):
    config = DataConfig(root=str(open_root()))
    with Run(tmp_path / "run") as run:
        assert read_run_classes(run) is None
        load_training_set(config, run)
        assert read_run_classes(run) == ["dog", "cat"]
        assert read_run_category_ids(run) == [3, 7]


def test_val_may_number_the_classes_otherwise(tmp_path, open_root):
    def swap(split, document):
        if split == "val":
            document["categories"] = [{"id": 3, "name": "cat"}, {"id": 7, "name": "dog"}]

    with Run(tmp_path / "run") as run:
        load_training_set(DataConfig(root=str(open_root(swap))), run)


def test_val_without_a_class_is_refused(tmp_path, open_root):
    def drop(split, document):
        if split == "val":
            del document["categories"][0]

    with (
        Run(tmp_path / "run") as run,
        pytest.raises(ValueError, match=r"val lacks cat\. train has dog, cat; val has dog"),
    ):
        load_training_set(DataConfig(root=str(open_root(drop))), run)


def exchange(document):
    for category, name in zip(document["categories"], ("dog", "cat"), strict=True):
        category["name"] = name


def drop_image(document):
    document["images"].pop()
    document["annotations"].pop()


def move_box(document):
    document["annotations"][0]["bbox"][0] += 1


def rename_files(document):
    document["images"][0]["file_name"], document["images"][1]["file_name"] = "2.png", "1b.png"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (exchange, "the classes were dog, cat and are cat, dog"),
        (drop_image, "there were 2 images and are 1"),
        (move_box, "ids, sizes, labels or boxes of the annotations differ"),
        (rename_files, "the image files have other names"),
    ],
)
def test_resuming_on_changed_data_is_refused_with_what_changed(tmp_path, open_root, change, message):
    root = open_root()
    config = DataConfig(root=str(root))
    with Run(tmp_path / "run") as run:
        load_training_set(config, run)
    (root / "train" / "1b.png").write_bytes((root / "train" / "1.png").read_bytes())
    with Begun(tmp_path / "run") as run:
        load_training_set(config, run)  # unchanged
        edit(root, change)
        val = root / "instances_val.json"
        categories = json.loads((root / "instances_train.json").read_text())["categories"]
        val.write_text(json.dumps(json.loads(val.read_text()) | {"categories": categories}))
        with pytest.raises(ValueError, match=message):
            load_training_set(config, run)


def test_scenes_are_not_rendered_to_be_recorded(tmp_path, monkeypatch):
    """Only the first is, which identifies the program that renders them."""
    rendered, original = [], SyntheticScenes.render
    monkeypatch.setattr(
        SyntheticScenes, "render", lambda *arguments: rendered.append(arguments[1]) or original(*arguments)
    )
    with Run(tmp_path / "run") as run:
        record_run_data(run, SyntheticScenes(10**4))
    assert json.loads((tmp_path / "run" / "data.json").read_text())["images"] == 10**4
    assert set(rendered) == {0}
