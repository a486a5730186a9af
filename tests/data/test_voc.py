import numpy as np
import pytest
from PIL import Image

from featlift.data.dataset import ImageDataset
from featlift.data.voc import VOC_CLASSES, VocDataset

XML = """<annotation><size><width>50</width><height>40</height><depth>3</depth></size>
<object><name>dog</name><difficult>0</difficult><bndbox><xmin>1</xmin><ymin>11</ymin><xmax>20</xmax><ymax>30</ymax></bndbox></object>
<object><name>person</name><difficult>1</difficult><bndbox><xmin>5</xmin><ymin>6</ymin><xmax>5</xmax><ymax>6</ymax></bndbox></object>
</annotation>"""


@pytest.fixture
def folder(tmp_path):
    for name in ("Annotations", "ImageSets/Main", "JPEGImages"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "ImageSets/Main/test.txt").write_text("000001\n")
    (tmp_path / "ImageSets/Main/dog_test.txt").write_text("000001 1\n")
    (tmp_path / "Annotations/000001.xml").write_text(XML)
    Image.fromarray(np.zeros((40, 50, 3), np.uint8)).save(tmp_path / "JPEGImages/000001.jpg")
    return tmp_path


def test_boxes_are_edges_and_difficult_ones_are_crowds(folder):
    voc = VocDataset(folder, "test")
    image, target = voc[0]
    assert isinstance(voc, ImageDataset)
    assert image.shape == (3, *voc.image_size(0)) == (3, 40, 50)
    assert target["boxes"].tolist() == [[0, 10, 20, 30], [4, 5, 5, 6]]
    assert [VOC_CLASSES[label - 1] for label in target["labels"]] == ["dog", "person"]
    assert target["iscrowd"].tolist() == [0, 1]
    assert target["area"].tolist() == [400, 1]


def test_truth(folder):
    truth = VocDataset(folder, "test").coco()
    assert [a["bbox"] for a in truth["annotations"]] == [[0, 10, 20, 20], [4, 5, 1, 1]]
    assert [a["difficult"] for a in truth["annotations"]] == [0, 1]
    assert len(truth["categories"]) == 20


def test_what_is_missing_is_named(folder):
    with pytest.raises(FileNotFoundError, match="Splits: test"):
        VocDataset(folder, "trainval")
    (folder / "ImageSets/Main/test.txt").write_text("000002\n")
    with pytest.raises(FileNotFoundError, match=r"000002\.xml"):
        VocDataset(folder, "test")


def test_other_classes_are_refused(folder):
    (folder / "Annotations/000001.xml").write_text(XML.replace("dog", "fox"))
    with pytest.raises(ValueError, match="'fox'"):
        VocDataset(folder, "test")
