import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as reference
from pycocotools.coco import COCO

from featlift.data.coco import CocoDataset, find_coco_split, open_coco_split

POLYGON = [[2.0, 2, 12, 3, 11, 10, 3, 9]]
CROWD = {"size": [20, 30], "counts": [100, 50, 450]}


@pytest.fixture
def dataset(tmp_path):
    """Two images, sizes 20x30 and 9x7; ids with gaps; a polygon, a crowd in run lengths; the second image is
    empty.
    """
    document = {
        "images": [
            {"id": 900, "file_name": "x.png", "width": 30, "height": 20},
            {"id": 5, "file_name": "y.png", "width": 7, "height": 9},
        ],
        "annotations": [
            {"id": 0, "image_id": 900, "category_id": 90, "bbox": [2, 2, 10, 8], "area": 66, "segmentation": POLYGON},
            {"id": 8, "image_id": 900, "category_id": 4, "bbox": [5, 0, 3, 20], "area": 50, "segmentation": CROWD},
        ],
        "categories": [{"id": 90, "name": "zebra"}, {"id": 4, "name": "ant"}],
    }  # fmt: skip
    document["annotations"][1]["iscrowd"] = 1  # the first has no such entry: it is 0 then
    for name, shape in (("x.png", (20, 30)), ("y.png", (9, 7))):
        Image.fromarray(np.full(shape, 51, dtype=np.uint8)).save(tmp_path / name)
    (tmp_path / "all.json").write_text(json.dumps(document))
    return CocoDataset(tmp_path / "all.json", tmp_path)


def test_targets_of_an_image(dataset):
    image, target = dataset[0]
    assert image.shape == (3, 20, 30)
    assert image.unique().tolist() == pytest.approx([0.2])
    assert (dataset.classes, dataset.category_ids) == (["ant", "zebra"], [4, 90])
    assert target["labels"].tolist() == [2, 1]
    assert target["boxes"].tolist() == [[2, 2, 12, 10], [5, 0, 8, 20]]
    assert target["iscrowd"].tolist() == [0, 1]
    assert target["area"].tolist() == [66, 50]
    assert target["image_id"] == 900
    assert {name: value.dtype for name, value in target.items()} == {
        "boxes": torch.float32, "labels": torch.int64, "iscrowd": torch.int64, "area": torch.float32,
        "image_id": torch.int64, "masks": torch.uint8,
    }  # fmt: skip


def test_masks_agree_with_the_reference(dataset):
    masks = dataset[0][1]["masks"].numpy()
    np.testing.assert_array_equal(masks[0], reference.decode(reference.frPyObjects(POLYGON, 20, 30)[0]))
    np.testing.assert_array_equal(masks[1], reference.decode(reference.frPyObjects(CROWD, 20, 30)))


def test_empty_images_stay(dataset):
    image, target = dataset[1]
    assert image.shape == (3, 9, 7)
    assert dataset.image_size(1) == (9, 7)
    assert target["boxes"].shape == (0, 4)
    assert target["masks"].shape == (0, 9, 7)


def test_the_report_counts(dataset):
    report = dataset.report
    assert (report.num_images, report.num_objects, report.num_crowds) == (2, 1, 1)
    assert (report.num_empty_images, report.num_classes) == (1, 2)


def test_the_ground_truth_is_read_by_the_reference(dataset, capsys):
    truth = COCO()
    truth.dataset = dataset.coco()
    truth.createIndex()
    capsys.readouterr()
    assert truth.getAnnIds() == [1, 2]
    assert [truth.cats[k]["name"] for k in (4, 90)] == ["ant", "zebra"]
    assert truth.loadAnns(2)[0]["iscrowd"] == 1
    np.testing.assert_array_equal(truth.annToMask(truth.loadAnns(1)[0]), dataset[0][1]["masks"][0].numpy())


def test_masks_can_be_left_out(tmp_path, dataset):
    plain = CocoDataset(tmp_path / "all.json", tmp_path, load_masks=False)
    assert "masks" not in plain[0][1]
    assert "segmentation" not in plain.coco()["annotations"][0]


def test_masks_of_some_objects_only_are_not_used_and_reported(tmp_path, dataset):
    document = json.loads((tmp_path / "all.json").read_text())
    document["annotations"][0]["segmentation"] = []
    (tmp_path / "all.json").write_text(json.dumps(document))
    part = CocoDataset(tmp_path / "all.json", tmp_path)
    assert "masks" not in part[0][1]
    assert "1 of 2 objects have a mask" in str(part.report)


@pytest.mark.parametrize(
    ("file", "folder"),
    [
        ("annotations/instances_train2017.json", "train2017"),
        ("annotations/instances_train2014.json", "images/train2014"),
        ("annotations/instances_train.json", "train"),
        ("instances_train.json", "train"),
        ("instances_train.json", "images/train"),
    ],
)
def test_layouts_are_found(tmp_path, dataset, file, folder):
    root = tmp_path / "root"
    for place in ((root / file).parent, root / folder):
        place.mkdir(parents=True, exist_ok=True)
    shutil.copy(tmp_path / "all.json", root / file)
    for name in ("x.png", "y.png"):
        shutil.copy(tmp_path / name, root / folder / name)
    assert find_coco_split(root, "train") == (root / file, root / folder)
    assert len(open_coco_split(root, "train")) == 2
    with pytest.raises(FileNotFoundError, match=r"No split 'val' in .*instances_val\*\.json.*Present: "):
        open_coco_split(root, "val")


def test_two_years_are_ambiguous(tmp_path):
    for year in ("2014", "2017"):
        (tmp_path / f"train{year}").mkdir()
        (tmp_path / f"instances_train{year}.json").write_text("{}")
    with pytest.raises(FileNotFoundError, match=r"several splits called train: instances_train2014\.json"):
        open_coco_split(tmp_path, "train")


def test_no_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"There is no folder .*nowhere"):
        open_coco_split(tmp_path / "nowhere", "train")
