from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from featlift.data.coco import CocoDataset
from featlift.data.formats.split_source import DocumentBuilder, polygons_box, relative_name
from featlift.data.problems import DatasetError


@pytest.fixture
def builder(tmp_path):
    Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(tmp_path / "a.png")
    return DocumentBuilder("own", tmp_path / "labels.txt", tmp_path, ["cat", "dog"], first_id=5)


def test_a_document_becomes_a_dataset(builder, tmp_path):
    image = builder.add_image(tmp_path / "a.png")
    builder.add_object(image, 1, (1, 2, 5, 9), location="line 1")
    builder.add_object(image, 0, segmentation=[[0, 0, 10, 0, 10, 10], [20, 0, 25, 0, 25, 5]], ignore=True)
    dataset = CocoDataset.from_source(builder.source)
    assert (dataset.layout, dataset.category_ids) == ("own", [5, 6])
    target = dataset[0][1]
    assert target["boxes"].tolist() == [[1, 2, 5, 9], [0, 0, 25, 10]]
    assert target["labels"].tolist() == [2, 1]
    assert target["iscrowd"].tolist() == [0, 1]


def test_an_annotation_is_named_by_its_line(builder, tmp_path):
    image = builder.add_image(tmp_path / "a.png")
    builder.add_object(image, 1, (1, 2, 50, 9), location="line 7")
    with pytest.raises(DatasetError, match=r"labels\.txt: line 7: its bbox"):
        CocoDataset.from_source(builder.source)


def test_images_that_cannot_be_read(builder, tmp_path):
    (tmp_path / "b.png").write_bytes(b"no image")
    assert builder.add_image(tmp_path / "b.png") is None
    assert builder.add_image(tmp_path / "c.png") is None
    assert [problem.kind for problem in builder.source.problems] == ["broken image", "missing image"]


def test_names_and_boxes():
    assert relative_name(Path("a/b/c.png"), Path("a")) == "b/c.png"
    assert relative_name(Path("a/c.png"), Path("b")) == "a/c.png"
    assert polygons_box([[1, 9, 4, 2, 3, 3], [0, 5, 2, 5, 2, 6]]) == (0, 2, 4, 9)


def test_backslashes_of_windows(builder, tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "a.png").rename(tmp_path / "images/a.png")
    builder.add_image(tmp_path / "images/a.png")
    builder.document["images"][0]["file_name"] = "images\\a.png"
    dataset = CocoDataset.from_source(builder.source)
    assert dataset[0][0].shape == (3, 20, 30)
    assert "backslashes of Windows" in str(dataset.report)
