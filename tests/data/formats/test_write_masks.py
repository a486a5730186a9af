import json

import numpy as np
import pytest
from PIL import Image

from featlift.data.formats.export import ExportImage, ExportObject, ExportSplit, Losses
from featlift.data.formats.write_masks import write_labelme, write_mask_images, write_yolo
from featlift.data.masks import mask_to_rle
from featlift.data.synthetic.scenes import SyntheticScenes


def instance(label, rows, columns, box=None):
    mask = np.zeros((40, 50), np.uint8)
    mask[rows, columns] = 1
    tight = (float(columns.start), float(rows.start), float(columns.stop), float(rows.stop))
    return ExportObject(label, box or tight, mask_to_rle(mask), False)


def split(*objects, classes=("cat", "stop sign")):
    image = ExportImage("a", 1, (40, 50), list(objects), SyntheticScenes(1, (40, 50)), 0)
    return {"train": ExportSplit(list(classes), [1, 2], [image])}


def test_yolo_polygons_are_fractions(tmp_path):
    write_yolo(split(instance(1, slice(4, 8), slice(10, 20))), tmp_path, Losses())
    label, *values = (tmp_path / "labels/train/a.txt").read_text().split()
    points = sorted(zip(*[iter(map(float, values))] * 2, strict=True))
    assert label == "1"
    assert points == [(0.2, 0.1), (0.2, 0.2), (0.4, 0.1), (0.4, 0.2)]


def test_yolo_boxes_if_an_object_has_no_mask(tmp_path):
    losses = Losses()
    write_yolo(
        split(instance(1, slice(4, 8), slice(10, 20)), ExportObject(0, (5, 10, 15, 30), None, False)), tmp_path, losses
    )
    lines = (tmp_path / "labels/train/a.txt").read_text().splitlines()
    assert lines == ["1 0.3 0.15 0.2 0.1", "0 0.2 0.5 0.2 0.5"]
    assert losses.lines() == ["1 masks are left out, since not all objects have one"]


def test_a_box_that_is_not_its_masks_is_counted(tmp_path):
    losses = Losses()
    write_labelme(split(instance(0, slice(4, 8), slice(10, 20), box=(0.0, 4.0, 20.0, 8.0))), tmp_path, losses)
    assert losses.lines() == ["1 boxes differ by more than 1 px from their mask's; the mask's is kept"]
    document = json.loads((tmp_path / "train/a.json").read_text())
    assert (document["imageHeight"], document["imagePath"], document["shapes"][0]["label"]) == (40, "a.png", "cat")


def test_covered_objects_are_counted(tmp_path):
    losses = Losses()
    large, small = instance(0, slice(0, 20), slice(0, 20)), instance(0, slice(5, 10), slice(5, 10))
    write_mask_images(split(small, large, instance(1, slice(5, 10), slice(5, 10))), tmp_path, losses)
    values = np.asarray(Image.open(tmp_path / "train/masks/cat/a.png"))
    assert [(values == value).sum() for value in (1, 2)] == [375, 25]
    assert (np.asarray(Image.open(tmp_path / "train/masks/stop sign/a.png")) > 0).sum() == 25
    assert losses.lines() == ["25 pixels are covered by another object of the class"]


def test_a_class_that_cannot_name_a_folder(tmp_path):
    with pytest.raises(ValueError, match="a/b"):
        write_mask_images(split(classes=("a/b",)), tmp_path, Losses())
