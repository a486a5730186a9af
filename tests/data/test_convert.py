"""Round trips: whatever is written in a format is read again with the same images, classes, boxes within a pixel, and masks."""

import importlib.util
import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

from featlift.cli import main
from featlift.data.coco_folders import write_synthetic_dataset
from featlift.data.convert import WITHOUT_IDS, WRITERS, convert_dataset, create_folder, write_coco_dataset
from featlift.data.open_dataset import list_splits, open_dataset

KEEP_MASKS = ("coco", "yolo", "labelme", "masks")
"""Formats that store masks."""


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    """A COCO folder with masks, a crowd region, an image without objects, ids with gaps, and equal names in subfolders."""
    root = tmp_path_factory.mktemp("scenes") / "coco"
    write_synthetic_dataset(root, 4, 2, (64, 80))
    for split in ("train", "val"):
        file = root / f"instances_{split}.json"
        truth = json.loads(file.read_text())
        new_ids = {category["id"]: 3 * category["id"] + 2 for category in truth["categories"]}
        for category in truth["categories"]:
            category["id"] = new_ids[category["id"]]
        empty = truth["images"][-1]["id"] if split == "train" else None
        truth["annotations"] = [a for a in truth["annotations"] if a["image_id"] != empty]
        for annotation in truth["annotations"]:
            annotation["category_id"] = new_ids[annotation["category_id"]]
        for number, image in enumerate(truth["images"]):
            folder = root / split / f"cam{number}"
            folder.mkdir()
            (root / split / image["file_name"]).rename(folder / "1.png")
            image["file_name"] = f"cam{number}/1.png"
        file.write_text(json.dumps(truth))
    return root


def describe(dataset):
    """Per image, in the order of the pixels: the objects as (class, box), the masks, and the pixels."""
    images = []
    for index in range(len(dataset)):
        image, target = dataset[index]
        names = [dataset.classes[label - 1] for label in target["labels"].tolist()]
        masks = list(target["masks"].numpy()) if "masks" in target else [None] * len(names)
        objects = sorted(
            zip(names, target["boxes"].tolist(), masks, target["iscrowd"].tolist(), strict=True), key=lambda o: o[:2]
        )
        images.append(((image * 255).round().byte().numpy(), objects))
    return sorted(images, key=lambda image: image[0].tobytes())


def assert_same(first, second, tolerance, with_masks):
    assert sorted(first.classes) == sorted(second.classes)
    for (pixels, objects), (other_pixels, other_objects) in zip(describe(first), describe(second), strict=True):
        assert (pixels == other_pixels).all()
        unmatched = list(other_objects)
        for name, box, mask, crowd in objects:
            near = [
                o
                for o in unmatched
                if o[0] == name and o[3] == crowd and np.abs(np.subtract(o[1], box)).max() <= tolerance
            ]
            assert near, (name, box, unmatched)
            chosen = min(near, key=lambda o: np.abs(np.subtract(o[1], box)).max())
            unmatched = [o for o in unmatched if o is not chosen]
            if with_masks:
                assert (mask == chosen[2]).all()
        assert not unmatched


@pytest.mark.parametrize("to", WRITERS)
def test_round_trip(scenes, tmp_path, to):
    lines = convert_dataset(scenes, tmp_path / "there", to)
    back = convert_dataset(tmp_path / "there", tmp_path / "back", "coco")
    assert list_splits(tmp_path / "there") == ["train", "val"]
    for split in ("train", "val"):
        original = open_dataset(scenes, split)
        for root in (tmp_path / "there", tmp_path / "back"):
            assert_same(original, open_dataset(root, split), 1.0, to in KEEP_MASKS)
    number = sum(len(open_dataset(scenes, split).coco()["annotations"]) for split in ("train", "val"))
    assert (f"{number} masks are left out" in lines) == (to not in KEEP_MASKS)
    assert (f"not stored by {to}: {WITHOUT_IDS.get(to)}" in lines) == (to != "coco")
    assert not any("skipped" in line for line in [*lines, *back])


def test_coco_keeps_all_ids(scenes, tmp_path):
    convert_dataset(scenes, tmp_path / "new", "coco")
    old, new = (open_dataset(root, "train").coco() for root in (scenes, tmp_path / "new"))
    assert old["categories"] == new["categories"]
    assert old["annotations"] == new["annotations"]
    assert [image["id"] for image in old["images"]] == [image["id"] for image in new["images"]]
    assert [image["file_name"] for image in new["images"]] == [f"cam{i}_1.png" for i in range(4)]


def with_crowd(scenes, folder):
    shutil.copytree(scenes, folder)
    file = folder / "instances_train.json"
    truth = json.loads(file.read_text())
    truth["annotations"][0]["iscrowd"] = 1
    file.write_text(json.dumps(truth))
    return folder


@pytest.mark.parametrize("to", WRITERS)
def test_a_crowd_region_is_kept_or_named(scenes, tmp_path, to):
    root = with_crowd(scenes, tmp_path / "coco")
    lines = convert_dataset(root, tmp_path / "new", to)
    crowds = sum(int(target["iscrowd"].sum()) for _, target in open_dataset(tmp_path / "new", "train"))
    assert crowds + any("1 crowd or difficult regions are left out" in line for line in lines) == 1
    assert crowds == (to not in ("yolo", "masks"))


@pytest.mark.parametrize("to", WRITERS)
def test_masks_of_some_objects_are_kept_or_named(scenes, tmp_path, to):
    shutil.copytree(scenes, tmp_path / "coco")
    file = tmp_path / "coco/instances_val.json"
    truth = json.loads(file.read_text())
    del truth["annotations"][0]["segmentation"]
    file.write_text(json.dumps(truth))
    lines = convert_dataset(tmp_path / "coco", tmp_path / "new", to)
    new = open_dataset(tmp_path / "new", "val")
    masks = sum(instance.rle is not None for entry in new._entries for instance in entry.objects)
    expected = len(truth["annotations"]) - 1
    if to in ("coco", "labelme", "masks"):
        assert masks == expected
        assert any("1 objects without a mask are left out" in line for line in lines) == (to == "masks")
    else:
        assert masks == 0
        assert any("masks are left out" in line for line in lines)


def test_supervision_reads_our_yolo_and_voc(scenes, tmp_path):
    sv = pytest.importorskip("supervision")
    convert_dataset(scenes, tmp_path / "yolo", "yolo")
    convert_dataset(scenes, tmp_path / "voc", "voc")
    folder, voc = tmp_path / "yolo", tmp_path / "voc"
    read = {
        "yolo": sv.DetectionDataset.from_yolo(
            str(folder / "images/train"), str(folder / "labels/train"), str(folder / "data.yaml")
        ),
        "voc": sv.DetectionDataset.from_pascal_voc(str(voc / "JPEGImages"), str(voc / "Annotations")),
    }
    ours = {name: open_dataset(tmp_path / name, "train") for name in read}
    for name, theirs in read.items():
        for index in range(len(ours[name])):
            target = ours[name][index][1]
            path = next(
                key for key in theirs.image_paths if key.endswith(ours[name].image_name(index).rpartition("/")[2])
            )
            detections = theirs.annotations[path]
            boxes = [
                sorted(map(tuple, np.round(values).tolist()))
                for values in (target["boxes"].numpy(), detections.xyxy.reshape(-1, 4))
            ]
            assert np.abs(np.subtract(*boxes)).max(initial=0) <= 1
            names = sorted(theirs.classes[label] for label in detections.class_id) if len(detections) else []
            assert names == sorted(ours[name].classes[label - 1] for label in target["labels"].tolist())


ULTRALYTICS = """
import sys
from ultralytics.data import utils
content = utils.check_det_dataset(sys.argv[1])
for image in sys.argv[2:]:
    label = utils.img2label_paths([image])[0]
    found = utils.verify_image_label((image, label, "", False, len(content["names"]), 0, 0, False))
    print(",".join(content["names"].values()), len(found[1]), len(found[3]), found[8])
"""


@pytest.mark.slow
def test_ultralytics_accepts_our_yolo(scenes, tmp_path):
    """In a process of its own: importing ultralytics changes Pillow."""
    if importlib.util.find_spec("ultralytics") is None:
        pytest.skip("ultralytics is not installed")
    convert_dataset(scenes, tmp_path / "yolo", "yolo")
    dataset = open_dataset(tmp_path / "yolo", "train")
    images = [str(tmp_path / "yolo" / dataset.image_name(index)) for index in range(len(dataset))]
    command = [sys.executable, "-c", ULTRALYTICS, str(tmp_path / "yolo/data.yaml"), *images]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    names = ",".join(dataset.classes)
    counts = [len(dataset[index][1]["boxes"]) for index in range(len(dataset))]
    assert printed[-len(images) :] == [
        f"{names} {number} {number} 0" for number in counts
    ]  # boxes, polygons, corrupt files


def test_hugging_faces_library_loads_ours(scenes, tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets")
    convert_dataset(scenes, tmp_path / "hf", "hugging-face")
    loaded = datasets.load_dataset("imagefolder", data_dir=str(tmp_path / "hf"), cache_dir=str(tmp_path / "cache"))
    assert {name: len(split) for name, split in loaded.items()} == {"train": 4, "validation": 2}
    row = loaded["validation"][0]
    assert row["image"].size == (80, 64)
    loaded.save_to_disk(str(tmp_path / "saved"))
    assert_same(open_dataset(scenes, "val"), open_dataset(tmp_path / "saved", "val"), 1e-4, False)


def test_a_dataset_that_is_not_divided_is_divided(scenes, tmp_path):
    (tmp_path / "one").mkdir()
    shutil.copytree(scenes / "train", tmp_path / "one/images")
    shutil.copy(scenes / "instances_train.json", tmp_path / "one/labels.json")
    lines = convert_dataset(tmp_path / "one", tmp_path / "new", "yolo", val_fraction=0.25)
    assert [line.split(",")[0] for line in lines[:2]] == ["train: 3 images", "val: 1 images"]
    assert [len(open_dataset(tmp_path / "new", split)) for split in ("train", "val")] == [3, 1]
    with pytest.raises(ValueError, match="divides a dataset of one split"):
        convert_dataset(scenes, tmp_path / "other", "coco", val_fraction=0.25)


def fail_in(folder):
    with create_folder(folder) as unfinished:
        (unfinished / "a").write_text("")
        raise RuntimeError


def test_nothing_is_half_written(tmp_path):
    with pytest.raises(RuntimeError):
        fail_in(tmp_path / "out")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "b").mkdir()
    (tmp_path / "b/c").write_text("")
    with pytest.raises(FileExistsError, match="not empty"):
        fail_in(tmp_path / "b")


def test_on_the_command_line(coco, tmp_path, capsys):
    assert main.main(["data", "convert", str(coco), str(tmp_path / "voc"), "--to", "voc"]) == 0
    assert "masks are left out" in capsys.readouterr().out
    assert main.main(["data", "check", str(tmp_path / "voc")]) == 0
    assert capsys.readouterr().out.count("2 images") == 2
    assert main.main(["data", "convert", str(coco), str(tmp_path / "x"), "--to", "yollo"]) == 2
    assert "yolo" in capsys.readouterr().err


def test_equal_names_in_folders_do_not_overwrite_each_other(scenes, tmp_path):
    write_coco_dataset({"train": open_dataset(scenes, "train")}, tmp_path / "out")
    assert_same(open_dataset(scenes, "train"), open_dataset(tmp_path / "out", "train"), 0, True)
