import base64
import io
import json
import math

import numpy as np
import pytest
from PIL import Image

from featlift.data.coco import CocoDataset
from featlift.data.formats.labelme import is_labelme, list_labelme_splits, read_labelme_split
from featlift.data.problems import DatasetError


def shape(label, points, kind="polygon", group=None, **other):
    return {"label": label, "points": points, "shape_type": kind, "group_id": group, "flags": {}, **other}


def write(folder, name, *shapes, path=""):
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((40, 50, 3), np.uint8)).save(folder / f"{name}.jpg")
    content = {"version": "5.5.0", "flags": {}, "shapes": shapes, "imagePath": path or f"{name}.jpg", "imageData": None}
    (folder / f"{name}.json").write_text(json.dumps({**content, "imageHeight": 40, "imageWidth": 50}))


def open_split(root, split="train", skip_broken=False):
    return CocoDataset.from_source(read_labelme_split(root, split), skip_broken)


def png(mask):
    buffer = io.BytesIO()
    Image.fromarray(mask.astype(np.uint8) * 255).convert("1").save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def test_shapes_become_objects(tmp_path):
    write(
        tmp_path, "a",
        shape("fox", [[10, 5], [30, 5], [30, 25], [10, 25]]),
        shape("cat", [[20, 30], [5, 10]], "rectangle"),
        shape("cat", [[25, 20], [25, 10]], "circle"),
        shape("fox", [[5, 6], [8, 7]], "mask", mask=png(np.array([[1, 1, 0, 0], [1, 1, 1, 1]]))),
        shape("fox", [[1, 1]], "point"),
        shape("fox", [[1, 1], [9, 9]], "line"),
    )  # fmt: skip
    dataset = open_split(tmp_path)
    target = dataset[0][1]
    assert dataset.classes == ["cat", "fox"]
    assert target["labels"].tolist() == [2, 1, 1, 2]
    assert target["boxes"].tolist() == [
        pytest.approx(b) for b in ([10, 5, 30, 25], [5, 10, 20, 30], [15, 10, 35, 30], [5, 6, 9, 8])
    ]
    rles = [instance.rle for instance in dataset._entries[0].objects]
    assert [rle is not None for rle in rles] == [True, False, True, True]
    assert "2 points and lines have no area" in str(dataset.report)


def test_masks_have_the_area_that_was_drawn(tmp_path):
    crop = np.array([[1, 1, 0, 0], [1, 1, 1, 1]])
    write(
        tmp_path, "a",
        shape("fox", [[25, 20], [25, 10]], "circle"),
        shape("fox", [[5, 6], [8, 7]], "mask", mask=png(crop)),
    )  # fmt: skip
    masks = open_split(tmp_path)[0][1]["masks"].numpy()
    assert masks[0].sum() == pytest.approx(math.pi * 100, rel=0.05)
    assert (masks[1][6:8, 5:9] == crop).all()
    assert masks[1].sum() == 6


def test_shapes_of_one_group_are_one_object(tmp_path):
    write(
        tmp_path, "a",
        shape("fox", [[0, 0], [10, 0], [10, 10], [0, 10]], group=1),
        shape("fox", [[30, 20], [40, 20], [40, 30], [30, 30]], group=1),
        shape("cat", [[0, 0], [10, 0], [10, 10], [0, 10]], group=1),
    )  # fmt: skip
    target = open_split(tmp_path)[0][1]
    assert target["boxes"].tolist() == [[0, 0, 40, 30], [0, 0, 10, 10]]
    assert target["masks"].sum(dim=(1, 2)).tolist() == [200, 100]


def test_splits_share_the_classes_and_paths_may_be_of_windows(tmp_path):
    box = [[1, 1], [9, 9]]
    write(tmp_path / "train", "a", shape("fox", box, "rectangle"), path="..\\train\\a.jpg")
    write(tmp_path / "val", "b", shape("cat", box, "rectangle"))
    assert is_labelme(tmp_path)
    assert list_labelme_splits(tmp_path) == ["train", "val"]
    assert open_split(tmp_path).classes == open_split(tmp_path, "val").classes == ["cat", "fox"]


@pytest.mark.parametrize(
    ("bad", "message", "left"),
    [
        (shape("fox", [[1, 1], [9, 9]], "ellipse"), "shape_type is 'ellipse'", ["b.jpg"]),
        (shape("fox", [[1, 1]], "rectangle"), "cannot be read", ["b.jpg"]),
        (shape("fox", [[5, 6], [8, 7]], "mask", mask="?"), "no PNG", ["b.jpg"]),
        (shape("fox", [[48, 6], [51, 7]], "mask", mask=png(np.ones((2, 4)))), "exceeds the image", ["b.jpg"]),
        (shape("fox", [[1, 1], [2, 2]]), "has no area|three points", ["a.jpg", "b.jpg"]),  # its box is known
    ],
)
def test_a_broken_shape_is_named(tmp_path, bad, message, left):
    write(tmp_path, "a", shape("fox", [[1, 1], [9, 9]], "rectangle"), bad)
    with pytest.raises(DatasetError, match=r"a\.json, shape 2") as error:
        open_split(tmp_path)
    assert error.match(message)
    write(tmp_path, "b", shape("fox", [[1, 1], [9, 9]], "rectangle"))
    rest = open_split(tmp_path, skip_broken=True)
    assert [rest.image_name(i) for i in range(len(rest))] == left


def test_a_broken_file_is_named(tmp_path):
    write(tmp_path, "a", shape("fox", [[1, 1], [9, 9]], "rectangle"))
    (tmp_path / "b.json").write_text('{"shapes": ')
    with pytest.raises(DatasetError, match=r"b\.json"):
        open_split(tmp_path)
