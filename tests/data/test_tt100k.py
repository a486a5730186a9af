"""A small TT100K folder: splits, classes, boxes, and errors."""

import json

import pytest
import torch
from PIL import Image

from featlift.data.dataset import ImageDataset
from featlift.data.tt100k import TT100KDataset


def sign(name, *box):
    return {"category": name, "bbox": dict(zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True)), "ellipse": {}}


IMGS = {
    "20": {
        "id": 20,
        "path": "train/20.jpg",
        "objects": [sign("pl40", 100.5, 20, 130.5, 60), sign("w99", 0, 0, 8, 9)],
    },
    "7": {"id": 7, "path": "train/7.jpg", "objects": [sign("pl40", 1, 2, 3, 4)]},
    "9": {"id": 9, "path": "train/9.jpg"},
    "3": {"id": 3, "path": "test/3.jpg", "objects": [sign("pl40", -2, 5, 2050, 50), sign("unseen", 1, 1, 5, 5)]},
}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "annotations.json").write_text(json.dumps({"imgs": IMGS, "types": ["pl40", "w99", "unseen"]}))
    for image in IMGS.values():
        path = tmp_path / image["path"]
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", (2048, 2048), "gray").save(path, quality=5)
    return tmp_path


def test_the_training_images(folder):
    dataset = TT100KDataset(folder)
    assert isinstance(dataset, ImageDataset)
    assert dataset.classes == ["pl40", "w99"]
    assert [dataset.image_name(i) for i in range(len(dataset))] == ["train/7.jpg", "train/9.jpg", "train/20.jpg"]
    image, target = dataset[2]
    assert image.shape == (3, *dataset.image_size(2)) == (3, 2048, 2048)
    assert target["boxes"].tolist() == [[100.5, 20, 130.5, 60], [0, 0, 8, 9]]
    assert target["labels"].tolist() == [1, 2]
    assert target["area"].tolist() == [1200, 72]
    assert int(target["image_id"]) == 20
    assert dataset[1][1]["boxes"].shape == (0, 4)


def test_labels_are_those_of_the_training_images_in_every_split(folder):
    dataset = TT100KDataset(folder, "test")
    assert dataset.classes == ["pl40", "w99"]
    target = dataset[0][1]
    assert target["labels"].tolist() == [1]
    assert dataset.excluded_classes == {"unseen": 1}
    assert torch.equal(target["boxes"], torch.tensor([[0.0, 5, 2048, 50]]))


def test_coco_says_the_same(folder):
    truth = TT100KDataset(folder).coco()
    assert [c["name"] for c in truth["categories"]] == ["pl40", "w99"]
    assert truth["annotations"][1]["bbox"] == [100.5, 20, 30, 40]
    assert {a["image_id"] for a in truth["annotations"]} == {7, 20}


def test_every_twentieth_training_image_can_be_held_out(tmp_path):
    imgs = {str(i): {"id": i, "path": f"train/{i}.jpg", "objects": [sign("p5", 1, 2, 3, 4)]} for i in range(1, 42)}
    (tmp_path / "annotations.json").write_text(json.dumps({"imgs": imgs, "types": ["p5"]}))
    (tmp_path / "train").mkdir()
    for image in imgs.values():
        (tmp_path / image["path"]).touch()
    parts = {split: TT100KDataset(tmp_path, split) for split in ("train", "train-fit", "held-out")}
    names = {split: [dataset.image_name(i) for i in range(len(dataset))] for split, dataset in parts.items()}
    assert names["held-out"] == ["train/20.jpg", "train/40.jpg"]
    assert sorted(names["held-out"] + names["train-fit"]) == sorted(names["train"])


def test_releases_are_never_mixed(folder):
    later = {"imgs": {"1": {"id": 1, "path": "train/7.jpg", "objects": [sign("p5", 1, 2, 3, 4)]}}}
    (folder / "annotations_all.json").write_text(json.dumps(later))
    with pytest.raises(ValueError, match="both releases"):
        TT100KDataset(folder)
    assert TT100KDataset(folder, release="2021").classes == ["p5"]
    assert TT100KDataset(folder, release="2016").classes == ["pl40", "w99"]


@pytest.mark.parametrize(
    ("options", "match"), [({"split": "val"}, "no split 'val'"), ({"release": "2018"}, "2016, 2021")]
)
def test_what_is_not_there(folder, options, match):
    with pytest.raises(ValueError, match=match):
        TT100KDataset(folder, **options)


def test_missing_files_are_named(folder, tmp_path_factory):
    (folder / "train" / "9.jpg").unlink()
    with pytest.raises(FileNotFoundError, match=r"1 of 3 images.*train/9.jpg"):
        TT100KDataset(folder)
    with pytest.raises(FileNotFoundError, match=r"none of annotations.json"):
        TT100KDataset(tmp_path_factory.mktemp("empty"))
