import json
import xml.etree.ElementTree as xml

import pytest

from featlift.data.formats.export import ExportImage, ExportObject, ExportSplit, Losses
from featlift.data.formats.write_boxes import write_coco, write_hugging_face, write_voc
from featlift.data.synthetic.scenes import SyntheticScenes


@pytest.fixture
def splits():
    scenes = SyntheticScenes(1, (40, 50))
    objects = [ExportObject(1, (1.4, 2.6, 10.5, 20.0), None, False), ExportObject(0, (49.8, 0, 50, 0.2), None, True)]
    return {"val": ExportSplit(["cat", "stop sign"], [5, 9], [ExportImage("a", 77, (40, 50), objects, scenes, 0)])}


def test_voc_counts_pixels_from_1(splits, tmp_path):
    write_voc(splits, tmp_path, Losses())
    root = xml.parse(tmp_path / "Annotations/a.xml").getroot()
    boxes = [
        [int(o.findtext(f"bndbox/{key}")) for key in ("xmin", "ymin", "xmax", "ymax")] for o in root.findall("object")
    ]
    assert boxes == [[2, 4, 10, 20], [50, 1, 50, 1]]
    assert [o.findtext("difficult") for o in root.findall("object")] == ["0", "1"]
    assert (root.findtext("size/width"), root.findtext("filename")) == ("50", "a.png")
    assert (tmp_path / "ImageSets/Main/val.txt").read_text() == "a\n"


def test_coco_keeps_ids(splits, tmp_path):
    write_coco(splits, tmp_path, Losses())
    truth = json.loads((tmp_path / "instances_val.json").read_text())
    assert truth["images"] == [{"id": 77, "file_name": "a.png", "width": 50, "height": 40}]
    assert [(a["category_id"], a["image_id"], a["iscrowd"]) for a in truth["annotations"]] == [(9, 77, 0), (5, 77, 1)]
    assert truth["annotations"][0]["area"] == pytest.approx(9.1 * 17.4)


def test_hugging_face_has_a_row_per_image(splits, tmp_path):
    write_hugging_face(splits, tmp_path, Losses())
    (line,) = (tmp_path / "validation/metadata.jsonl").read_text().splitlines()
    row = json.loads(line)
    assert (row["file_name"], row["objects"]["category"], row["objects"]["iscrowd"]) == (
        "a.png",
        ["stop sign", "cat"],
        [0, 1],
    )
    assert row["objects"]["bbox"][0] == pytest.approx([1.4, 2.6, 9.1, 17.4])
