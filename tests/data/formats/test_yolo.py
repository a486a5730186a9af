from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from featlift.data.coco import CocoDataset
from featlift.data.formats.yolo import find_label_file, find_yolo_file, list_yolo_splits, read_yolo_split
from featlift.data.problems import DatasetError

YAML = "path: .\ntrain: images/train\nval: images/val\nnames: {0: cat, 1: stop sign, 2: dog}\n"
LABELS = "2 0.5 0.5 0.2 0.4\n0 0.1 0.25 0.1 0.5\n"
POLYGON = "1 0.1 0.2 0.5 0.2 0.5 0.6 0.1 0.6\n"


def write_images(folder, *names, size=(50, 40)):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        Image.fromarray(np.zeros((size[1], size[0], 3), np.uint8)).save(folder / name)


@pytest.fixture
def root(tmp_path):
    for split in ("train", "val"):
        write_images(tmp_path / "images" / split, "a.png", "b.jpg")
        (tmp_path / "labels" / split).mkdir(parents=True)
        (tmp_path / "labels" / split / "a.txt").write_text(LABELS)
        (tmp_path / "labels" / split / "b.txt").write_text(POLYGON)
    (tmp_path / "data.yaml").write_text(YAML)
    return tmp_path


def open_split(root, split="train", skip_broken=False):
    return CocoDataset.from_source(read_yolo_split(Path(root), split), skip_broken)


def test_boxes_classes_and_ids(root):
    dataset = open_split(root)
    assert (dataset.classes, dataset.category_ids) == (["cat", "stop sign", "dog"], [0, 1, 2])
    assert [dataset.image_name(i) for i in range(2)] == ["images/train/a.png", "images/train/b.jpg"]
    assert dataset[0][1]["boxes"].tolist() == [pytest.approx(box) for box in ([20, 12, 30, 28], [2.5, 0, 7.5, 20])]
    assert dataset[0][1]["labels"].tolist() == [3, 1]
    assert [a["category_id"] for a in dataset.coco()["annotations"]] == [2, 0, 1]


def test_a_polygon_is_a_box_and_a_mask(root):
    dataset = open_split(root)
    assert dataset[1][1]["boxes"][0].tolist() == pytest.approx([5, 8, 25, 24])
    assert not dataset.has_masks  # the boxes of the other image have none
    (root / "labels/train/a.txt").write_text("")
    assert open_split(root)[1][1]["masks"].sum() == 20 * 16


def test_supervision_reads_the_same(root):
    sv = pytest.importorskip("supervision")
    theirs = sv.DetectionDataset.from_yolo(
        str(root / "images/train"), str(root / "labels/train"), str(root / "data.yaml")
    )
    dataset = open_split(root)
    for name, _, detections in theirs:
        index = ["a.png", "b.jpg"].index(Path(name).name)
        assert np.allclose(dataset[index][1]["boxes"].numpy(), detections.xyxy, atol=1)
        assert (dataset[index][1]["labels"].numpy() - 1 == detections.class_id).all()


def test_hotcoco_reads_the_same(root):
    hotcoco = pytest.importorskip("hotcoco")
    (root / "labels/train/b.txt").write_text("1 0.3 0.4 0.4 0.4\n")
    (root / "labels/train/data.yaml").write_text("names: [cat, stop sign, dog]\n")
    theirs = hotcoco.COCO.from_yolo(str(root / "labels/train"), str(root / "images/train")).dataset
    ours = open_split(root).coco()
    names = [{c["id"]: c["name"] for c in truth["categories"]} for truth in (theirs, ours)]
    rows = [
        sorted((name[a["category_id"]], *(round(v, 3) for v in a["bbox"])) for a in truth["annotations"])
        for name, truth in zip(names, (theirs, ours), strict=True)
    ]
    assert rows[0] == rows[1]


@pytest.mark.parametrize(
    ("line", "message", "left"),
    [
        ("7 0.5 0.5 0.1 0.1", "there is no category 7; known: 0, 1, 2", [(2, 1), (1, 0)]),
        ("-1 0.5 0.5 0.1 0.1", "its class is -1; data.yaml has the classes 0 to 2", [(1, 0)]),
        ("0 0.5 0.5 0.1", "it has 4 numbers", [(1, 0)]),
        ("0 0.5 0.5 0.1 0.1 0.9", "a box and a score", [(1, 0)]),
        ("0 20 30 10 10", "coordinates are fractions", [(1, 0)]),
        ("0 0.5 0.5 nan 0.1", "not finite", [(1, 0)]),
        ("cat 0.5 0.5 0.1 0.1", "not a number", [(1, 0)]),
        ("0 0.5 0.5 0 0.1", "has no area", [(2, 1), (1, 0)]),
        ("0 0.9 0.5 0.5 0.1", "exceeds the image", [(3, 0), (1, 0)]),
    ],
)
def test_a_broken_line_is_named_and_can_be_skipped(root, line, message, left):
    """``left``: objects and ignored regions of each image; an image with an object in an unknown place is left out."""
    (root / "labels/train/a.txt").write_text(f"{LABELS}{line}\n")
    with pytest.raises(DatasetError, match=r"labels/train/a.txt, line 3") as error:
        open_split(root)
    assert message in str(error.value)
    dataset = open_split(root, skip_broken=True)
    crowds = [dataset[i][1]["iscrowd"].tolist() for i in range(len(dataset))]
    assert [(flags.count(0), flags.count(1)) for flags in crowds] == left
    assert message in str(dataset.report)


def test_an_image_without_a_label_file_has_no_objects_and_is_counted(root):
    (root / "labels/train/a.txt").unlink()
    dataset = open_split(root)
    assert len(dataset[0][1]["boxes"]) == 0
    assert "1 images have no label file" in str(dataset.report)


def test_a_broken_image_is_named(root):
    (root / "images/train/a.png").write_bytes(b"no image")
    with pytest.raises(DatasetError, match=r"images/train/a\.png"):
        open_split(root)


def test_roboflows_paths_and_names_as_a_list(tmp_path):
    for split in ("train", "valid"):
        write_images(tmp_path / split / "images", "a.jpg")
        (tmp_path / split / "labels").mkdir()
        (tmp_path / split / "labels/a.txt").write_text("1 0.5 0.5 0.2 0.4\n")
    (tmp_path / "data.yaml").write_text("train: ../train/images\nval: ../valid/images\nnc: 2\nnames: ['cat', 'dog']\n")
    assert list_yolo_splits(tmp_path) == ["train", "val"]
    assert open_split(tmp_path, "val")[0][1]["labels"].tolist() == [2]


def test_lists_of_images(root):
    (root / "train.txt").write_text("./images/train/b.jpg\n")
    (root / "data.yaml").write_text("train: train.txt\nval: [images/val, images/train]\nnc: 3\n")
    assert [open_split(root).image_name(0), len(open_split(root))] == ["images/train/b.jpg", 1]
    assert len(open_split(root, "val")) == 4
    assert open_split(root).classes == ["0", "1", "2"]


def test_keypoints_are_left_out_with_a_note(root):
    (root / "data.yaml").write_text(f"{YAML}kpt_shape: [2, 3]\n")
    (root / "labels/train/a.txt").write_text("2 0.5 0.5 0.2 0.4 0.5 0.5 2 0.6 0.5 1\n")
    (root / "labels/train/b.txt").write_text("")
    dataset = open_split(root)
    assert dataset[0][1]["boxes"][0].tolist() == pytest.approx([20, 12, 30, 28])
    assert "keypoints" in str(dataset.report)


def test_boxes_are_those_of_the_upright_image(root):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: 50x40 stored, 40x50 upright
    Image.fromarray(np.zeros((40, 50, 3), np.uint8)).save(root / "images/train/b.jpg", exif=exif)
    (root / "labels/train/b.txt").write_text("0 0.5 0.5 1 1\n")
    assert open_split(root)[1][1]["boxes"].tolist() == [[0, 0, 40, 50]]


@pytest.mark.parametrize("text", ["[1, 2", "train: images/train\nval: images/val\nnames: {1: cat, 3: dog}\n"])
def test_a_broken_yaml_is_named(root, text):
    (root / "data.yaml").write_text(text)
    with pytest.raises(DatasetError, match=r"data\.yaml"):
        read_yolo_split(root / "data.yaml", "train")


def test_a_missing_split_names_the_others(root):
    with pytest.raises(FileNotFoundError, match="it has train, val"):
        open_split(root, "test")


def test_the_yaml_is_found(root):
    assert find_yolo_file(root) == find_yolo_file(root / "data.yaml") == root / "data.yaml"
    (root / "other.yaml").write_text("a: 1\n")
    (root / "data.yaml").rename(root / "coco8.yaml")
    assert find_yolo_file(root) == root / "coco8.yaml"
    assert find_yolo_file(root / "images") is None


def test_label_files():
    assert find_label_file(Path("images/x/images/b/c.jpg")) == Path("images/x/labels/b/c.txt")
    assert find_label_file(Path("x/c.d.jpg")) == Path("x/c.d.txt")
