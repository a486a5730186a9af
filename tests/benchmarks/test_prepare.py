"""Conversion of the published forms of GTSDB and DeepPCB, one image per split."""

import json

import deeppcb
import gtsdb
import pytest
from coco_json import read_names
from PIL import Image

from featlift.data.coco import open_coco_split


def test_the_splits_are_disjoint():
    train, val = read_names("deeppcb_train"), read_names("deeppcb_val")
    assert (len(train), len(val), len(read_names("gtsdb_val"))) == (650, 50, 100)
    assert not set(train) & set(val)


def test_gtsdb(tmp_path):
    """By hand: the box 774…815 has 42 pixels, 21 at half size."""
    train, val = "00000", read_names("gtsdb_val")[0]
    (tmp_path / "source").mkdir()
    for name in (train, val):
        Image.radial_gradient("L").convert("RGB").resize((1360, 800)).save(tmp_path / "source" / f"{name}.ppm")
    lines = [f"{train}.ppm;774;411;815;446;11", f"{val}.ppm;983;388;1024;432;40", f"{val}.ppm;10;20;19;39;2"]
    (tmp_path / "source" / "gt.txt").write_text("\n".join(lines) + "\n")
    gtsdb.convert(tmp_path / "source", tmp_path / "out")
    image, target = open_coco_split(tmp_path / "out", "train")[0]
    assert image.shape == (3, 400, 680)
    assert target["boxes"].tolist() == [[387.0, 205.5, 408.0, 223.5]]
    truth = json.loads((tmp_path / "out" / "instances_val.json").read_text())
    assert [(a["category_id"], a["fine_category_id"]) for a in truth["annotations"]] == [(3, 40), (1, 2)]
    assert [category["name"] for category in truth["categories"]] == ["prohibitory", "danger", "mandatory", "other"]


def test_deeppcb(tmp_path, monkeypatch):
    names = {"deeppcb_train": ["00041000"], "deeppcb_val": ["12000001"]}
    monkeypatch.setattr(deeppcb, "read_names", names.__getitem__)
    for (name,) in names.values():
        group = tmp_path / "source" / f"group{name[:5]}"
        (group / name[:5]).mkdir(parents=True)
        (group / f"{name[:5]}_not").mkdir()
        Image.new("L", (640, 640)).save(group / name[:5] / f"{name}_test.jpg")
        (group / f"{name[:5]}_not" / f"{name}.txt").write_text("466 441 493 470 3\n454 300 493 396 2\n")
    deeppcb.convert(tmp_path / "source", tmp_path / "out")
    dataset = open_coco_split(tmp_path / "out", "val")
    assert dataset.classes == list(deeppcb.CLASSES)
    assert dataset[0][1]["boxes"].tolist() == [[466.0, 441.0, 493.0, 470.0], [454.0, 300.0, 493.0, 396.0]]
    assert dataset[0][1]["labels"].tolist() == pytest.approx([3, 2])
