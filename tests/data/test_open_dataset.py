"""A path is a COCO folder, the folder of TT100K, a JSON file of TT100K or the folder of a VOC year."""

import json

import pytest
from PIL import Image

from featlift.data import coco_folders
from featlift.data.coco import CocoDataset
from featlift.data.open_dataset import is_dataset, locate_split, open_dataset
from featlift.data.tt100k import TT100KDataset

BOX = {"category": "p5", "bbox": {"xmin": 1, "ymin": 2, "xmax": 9, "ymax": 9}}


@pytest.fixture
def tt100k(tmp_path):
    imgs = {
        str(i): {"id": i, "path": f"{'test' if i > 20 else 'train'}/{i}.jpg", "objects": [BOX]} for i in range(1, 23)
    }
    (tmp_path / "annotations.json").write_text(json.dumps({"imgs": imgs, "types": ["p5"]}))
    for image in imgs.values():
        path = tmp_path / image["path"]
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", (16, 16)).save(path)
    return tmp_path


@pytest.mark.parametrize(("split", "count"), [("train", 19), ("val", 2), ("held-out", 1), ("test", 2)])
def test_tt100k_by_its_folder(tt100k, split, count):
    dataset = open_dataset(tt100k, split)
    assert isinstance(dataset, TT100KDataset)
    assert len(dataset) == count


def test_tt100k_by_its_json_where_both_releases_are(tt100k):
    (tt100k / "annotations_all.json").write_text((tt100k / "annotations.json").read_text())
    with pytest.raises(ValueError, match="both releases"):
        open_dataset(tt100k, "val")
    dataset = open_dataset(tt100k / "annotations.json", "val")
    assert isinstance(dataset, TT100KDataset)
    assert dataset.release == "2016"


def test_a_coco_folder(tmp_path):
    coco_folders.write_synthetic_dataset(str(tmp_path / "made"), 2, 1, (64, 64), 0)
    assert isinstance(open_dataset(tmp_path / "made", "val"), CocoDataset)


@pytest.mark.parametrize(("files", "split", "expected"), [
    (("trainval", "test"), "train", 2), (("trainval", "test"), "val", 1), (("train", "val"), "val", 1),
])  # fmt: skip
def test_a_voc_year(tmp_path, files, split, expected):
    for folder in ("ImageSets/Main", "Annotations"):
        (tmp_path / folder).mkdir(parents=True)
    for name, images in zip(files, ("01\n02\n", "03\n"), strict=True):
        (tmp_path / "ImageSets" / "Main" / f"{name}.txt").write_text(images)
    (tmp_path / "JPEGImages").mkdir()
    for name in ("01", "02", "03"):
        text = "<annotation><size><height>4</height><width>5</width></size></annotation>"
        (tmp_path / "Annotations" / f"{name}.xml").write_text(text)
        Image.new("RGB", (5, 4)).save(tmp_path / "JPEGImages" / f"{name}.jpg")
    dataset = open_dataset(tmp_path, split)
    assert dataset.layout == "voc"
    assert len(dataset) == expected


@pytest.mark.parametrize(
    ("splits", "expected"), [(("train", "val"), "val"), (("val",), "val"), (("train",), "train"), (("all",), "all")]
)
def test_the_validation_images_of_another_folder(tmp_path, splits, expected):
    content = {"shapes": [], "imagePath": "a.png", "imageHeight": 4, "imageWidth": 5}
    for split in splits:
        folder = tmp_path / split if split != "all" else tmp_path
        folder.mkdir(exist_ok=True)
        Image.new("RGB", (5, 4)).save(folder / "a.png")
        (folder / "a.json").write_text(json.dumps(content))
    assert locate_split("elsewhere", str(tmp_path), "val") == (str(tmp_path), expected)
    assert locate_split("elsewhere", str(tmp_path), "train") == ("elsewhere", "train")
    assert locate_split("elsewhere", "", "val") == ("elsewhere", "val")


def test_a_folder_of_images_is_no_dataset(tt100k, tmp_path):
    assert is_dataset(tt100k)
    assert not is_dataset(tmp_path / "train")
    assert not is_dataset(tmp_path / "nowhere")


def test_neither(tmp_path):
    with pytest.raises(FileNotFoundError, match="instances_train"):
        open_dataset(tmp_path, "train")
