import json
import shutil

import pytest

from featlift.data.coco import CocoDataset
from featlift.data.formats.coco_exports import is_coco_export, list_coco_splits, read_coco_export
from featlift.data.problems import DatasetError


@pytest.fixture
def documents(coco):
    return {split: json.loads((coco / f"instances_{split}.json").read_text()) for split in ("train", "val")}


def place(coco, split, images, file, document):
    shutil.copytree(coco / split, images, dirs_exist_ok=True)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(document))


def open_split(root, split):
    return CocoDataset.from_source(read_coco_export(root, split))


def test_roboflow(coco, documents, tmp_path):
    for split, name in (("train", "train"), ("val", "valid")):
        document = documents[split]
        for category in document["categories"]:
            category["supercategory"] = "signs"
        document["categories"].insert(0, {"id": 0, "name": "signs", "supercategory": "none"})
        place(coco, split, tmp_path / name, tmp_path / name / "_annotations.coco.json", document)
    assert list_coco_splits(tmp_path) == ["train", "val"]
    for split in ("train", "val"):
        dataset = open_split(tmp_path, split)
        assert dataset.classes == [c["name"] for c in documents[split]["categories"][1:]]
        assert 0 not in dataset.category_ids
        assert "the name of the Roboflow project" in str(dataset.report)


def test_category_0_with_objects_is_kept(coco, documents, tmp_path):
    document = documents["train"]
    document["categories"].insert(0, {"id": 0, "name": "signs", "supercategory": "none"})
    document["annotations"][0]["category_id"] = 0
    place(coco, "train", tmp_path / "train", tmp_path / "train/_annotations.coco.json", document)
    assert open_split(tmp_path, "train").category_ids[0] == 0


@pytest.mark.parametrize("images", ["images", "images/default", "."])
def test_cvat_and_one_file_next_to_its_images(coco, documents, tmp_path, images):
    place(coco, "train", tmp_path / images, tmp_path / "annotations/instances_default.json", documents["train"])
    assert list_coco_splits(tmp_path) == ["all"]
    assert len(open_split(tmp_path, "train")) == 2
    with pytest.raises(FileNotFoundError, match="--split all"):
        open_split(tmp_path, "val")


def test_a_file_with_its_images_anywhere_near(coco, documents, tmp_path):
    place(coco, "val", tmp_path / "photos", tmp_path / "labels.json", documents["val"])
    assert is_coco_export(tmp_path / "labels.json")
    assert len(open_split(tmp_path / "labels.json", "all")) == 2


def test_splits_in_file_names(coco, documents, tmp_path):
    for split in ("train", "val"):
        place(coco, split, tmp_path / "images", tmp_path / f"my_{split}.json", documents[split])
    assert list_coco_splits(tmp_path) == ["train", "val"]
    assert open_split(tmp_path, "val").coco()["images"] == documents["val"]["images"]


def test_images_that_are_nowhere(documents, tmp_path):
    (tmp_path / "labels.json").write_text(json.dumps(documents["train"]))
    with pytest.raises(DatasetError, match="put the JSON file next to the folder of its images"):
        open_split(tmp_path / "labels.json", "train")


def test_several_files_for_a_split(coco, documents, tmp_path):
    for name in ("train_a.json", "train_b.json"):
        place(coco, "train", tmp_path / "images", tmp_path / name, documents["train"])
    with pytest.raises(FileNotFoundError, match=r"train_a\.json, train_b\.json"):
        open_split(tmp_path, "train")


def test_other_json_files_are_none(tmp_path):
    (tmp_path / "package.json").write_text('{"name": "x", "images": []}')
    assert not is_coco_export(tmp_path)
    (tmp_path / "labels.json").write_text('{"images": [], "annotations": ')
    with pytest.raises(DatasetError, match="not JSON"):
        open_split(tmp_path, "train")
