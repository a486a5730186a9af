import numpy as np
import pytest
from PIL import Image

from featlift.data.coco import CocoDataset
from featlift.data.dataset import ImageDataset
from featlift.data.formats.voc import VOC_CLASSES, find_voc_years, is_voc, list_voc_splits, read_voc_split
from featlift.data.problems import DatasetError

OBJECT = (
    "<object><name>{}</name><difficult>{}</difficult><bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox>"
    "<part><name>head</name></part></object>"
)
HEAD = "<annotation><filename>{}</filename><size><width>50</width><height>40</height><depth>3</depth></size>"
OBJECTS = (("dog", 0, 1, 11, 20, 30), ("person", 1, 5, 6, 5, 6))


def xml(*objects, filename="000001.jpg"):
    return HEAD.format(filename) + "".join(OBJECT.format(*each) for each in objects) + "</annotation>"


def write_image(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((40, 50, 3), np.uint8)).save(path)


def write_year(folder, **splits):
    for name in ("Annotations", "ImageSets/Main"):
        (folder / name).mkdir(parents=True)
    for split, stems in splits.items():
        (folder / f"ImageSets/Main/{split}.txt").write_text("".join(f"{stem}\n" for stem in stems))
        for stem in stems:
            (folder / f"Annotations/{stem}.xml").write_text(xml(*OBJECTS, filename=f"{stem}.jpg"))
            write_image(folder / f"JPEGImages/{stem}.jpg")
    (folder / "ImageSets/Main/dog_test.txt").write_text("000001 1\n")
    return folder


def open_split(root, split, skip_broken=False):
    return CocoDataset.from_source(read_voc_split(root, split), skip_broken)


@pytest.fixture
def year(tmp_path):
    return write_year(tmp_path / "VOC2007", trainval=["000002"], test=["000001"])


def test_boxes_are_edges_and_difficult_ones_are_ignored(year):
    voc = open_split(year, "val")
    image, target = voc[0]
    assert isinstance(voc, ImageDataset)
    assert voc.image_name(0) == "JPEGImages/000001.jpg"
    assert image.shape == (3, *voc.image_size(0)) == (3, 40, 50)
    assert target["boxes"].tolist() == [[0, 10, 20, 30], [4, 5, 5, 6]]
    assert [VOC_CLASSES[label - 1] for label in target["labels"]] == ["dog", "person"]
    assert target["iscrowd"].tolist() == [0, 1]
    assert target["area"].tolist() == [400, 1]


def test_ground_truth(year):
    truth = open_split(year, "val").coco()
    assert [a["bbox"] for a in truth["annotations"]] == [[0, 10, 20, 20], [4, 5, 1, 1]]
    assert [c["name"] for c in truth["categories"]] == list(VOC_CLASSES)


@pytest.mark.parametrize(
    ("splits", "split", "expected"),
    [
        ({"trainval": ["1", "2"], "test": ["3"]}, "train", 2),
        ({"trainval": ["1", "2"], "test": ["3"]}, "val", 1),
        ({"trainval": ["1", "2"], "train": ["1"], "val": ["2"], "test": ["3"]}, "trainval", 2),
        ({"train": ["1", "2"], "val": ["3"]}, "val", 1),
    ],
)
def test_splits_of_a_year(tmp_path, splits, split, expected):
    folder = write_year(tmp_path / "VOC", **splits)
    assert len(open_split(folder, split)) == expected
    assert list_voc_splits(folder) == ["train", "val"]


def test_the_years_of_a_devkit_are_joined(tmp_path):
    """VOC07+12: training on trainval of both, test on 2007."""
    write_year(tmp_path / "VOC2007", trainval=["1"], test=["2"])
    write_year(tmp_path / "VOC2012", trainval=["2012_1"])
    assert [path.name for path in find_voc_years(tmp_path)] == ["VOC2007", "VOC2012"]
    train = open_split(tmp_path, "train")
    assert [train.image_name(i) for i in range(2)] == ["VOC2007/JPEGImages/1.jpg", "VOC2012/JPEGImages/2012_1.jpg"]
    assert len(open_split(tmp_path, "val")) == 1


def test_missing_files_are_named(year):
    with pytest.raises(FileNotFoundError, match="Splits: test, trainval"):
        open_split(year, "minival")
    (year / "ImageSets/Main/trainval.txt").write_text("000003\n")
    with pytest.raises(DatasetError, match=r"000003\.xml"):
        open_split(year, "train")


def test_any_class_names_which_train_and_val_share(tmp_path):
    """Roboflow's export: images and XML files in one folder per split; classes of all splits."""
    for split, name in (("train", "screw"), ("valid", "bolt")):
        write_image(tmp_path / split / "a.png")
        (tmp_path / split / "a.xml").write_text(xml((name, 0, 1, 1, 9, 9), filename="C:\\labels\\A.PNG"))
    assert is_voc(tmp_path)
    assert list_voc_splits(tmp_path) == ["train", "val"]
    train, val = (open_split(tmp_path, split) for split in ("train", "val"))
    assert train.classes == val.classes == ["bolt", "screw"]
    assert train[0][1]["labels"].tolist() == [2]


def test_cvats_class_file(tmp_path):
    write_year(tmp_path, train=["1"], val=["2"])
    (tmp_path / "labelmap.txt").write_text(
        "# label:color_rgb:parts:actions\nbackground:0,0,0::\nperson:1,2,3::\nfox:::\ndog:::\n"
    )
    for name in ("1", "2"):
        (tmp_path / f"Annotations/{name}.xml").write_text(xml(("fox", 0, 1, 1, 9, 9), filename=f"{name}.jpg"))
    assert open_split(tmp_path, "train").classes == ["person", "fox", "dog"]


def test_a_folder_that_is_not_divided(tmp_path):
    write_image(tmp_path / "images/a.jpg")
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations/a.xml").write_text(xml(("fox", 0, 1, 1, 9, 9), filename="a.jpg"))
    assert len(open_split(tmp_path, "train")) == len(open_split(tmp_path, "all")) == 1
    with pytest.raises(FileNotFoundError, match="--val-fraction"):
        open_split(tmp_path, "val")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<annotation", "not XML"),
        (xml(("fox", 0, 1, 1, "nine", 9)), "a number in <bndbox>"),
        (xml(("", 0, 1, 1, 9, 9)), "lacks a <name>"),
        (xml(("fox", 0, 9, 1, 3, 9)), "has no area"),
        (xml(("fox", 0, 1, 1, 70, 9)), "exceeds the image"),
    ],
)
def test_a_broken_file_is_named_and_can_be_skipped(year, text, message):
    (year / "Annotations/000002.xml").write_text(text)
    with pytest.raises(DatasetError, match=r"Annotations/000002\.xml") as error:
        open_split(year, "train")
    assert message in str(error.value)


def test_torchvision_reads_the_same_numbers(tmp_path):
    from torchvision.datasets import VOCDetection

    write_year(tmp_path / "VOCdevkit/VOC2012", train=["1"], val=["2"])
    _, target = VOCDetection(str(tmp_path), year="2012", image_set="train")[0]
    theirs = [
        [int(o["bndbox"][key]) for key in ("xmin", "ymin", "xmax", "ymax")] for o in target["annotation"]["object"]
    ]
    ours = open_split(tmp_path / "VOCdevkit", "train")[0][1]["boxes"]
    ours[:, :2] += 1
    assert ours.tolist() == theirs
