"""``featlift data check`` of every format: each mistake that the format can have gets its line, with its count and examples."""

import json
import re

import numpy as np
import pytest
from PIL import Image

from featlift.data.check import check_dataset
from featlift.data.convert import convert_dataset

BOXES = [[5, 6, 20, 10], [2, 3, 8, 9], [10, 4, 15, 12], [20, 15, 10, 10]]
FORMATS = ("roboflow", "cvat", "yolo", "voc", "labelme", "masks", "hugging-face", "saved")
BOX_FORMATS = ("roboflow", "cvat", "yolo", "voc", "labelme", "hugging-face", "saved")


@pytest.fixture
def make(tmp_path, write_folder):
    """A function that writes the images of `write_folder`, with `BOXES` as objects of the first, in a format."""

    def write(name, boxes=BOXES, with_masks=False):
        annotations = [{"image_id": 1, "category_id": 1, "iscrowd": 0, "bbox": box} for box in boxes]
        for annotation, (left, top, width, height) in zip(annotations, boxes, strict=True):
            corners = [left, top, left + width, top, left + width, top + height, left, top + height]
            annotation |= {"segmentation": [corners]} if with_masks else {}
        root = write_folder(tmp_path / "coco", annotations)
        if name in ("roboflow", "cvat"):
            return export_coco(root, tmp_path / name, name)
        if name == "saved":
            return save_hugging_face(root, tmp_path / name)
        convert_dataset(root, tmp_path / name, name)
        return tmp_path / name

    return write


def export_coco(root, target, name):
    """The layouts of the exports of Roboflow and CVAT."""
    for split, folder in (("train", "train"), ("val", "valid" if name == "roboflow" else "val")):
        document = json.loads((root / f"instances_{split}.json").read_text())
        images = target / folder if name == "roboflow" else target / "images" / folder
        images.parent.mkdir(parents=True, exist_ok=True)
        (root / split).rename(images)
        file = images / "_annotations.coco.json" if name == "roboflow" else target / "annotations" / f"{folder}.json"
        file.parent.mkdir(exist_ok=True)
        file.write_text(json.dumps(document))
    return target


def save_hugging_face(root, target):
    datasets = pytest.importorskip("datasets")
    splits = {}
    for split, name in (("train", "train"), ("val", "validation")):
        document = json.loads((root / f"instances_{split}.json").read_text())
        rows = []
        for image in document["images"]:
            objects = [a for a in document["annotations"] if a["image_id"] == image["id"]]
            boxes, areas = (
                [list(map(float, a["bbox"])) for a in objects],
                [a["bbox"][2] * a["bbox"][3] for a in objects],
            )
            path = str(root / split / image["file_name"])
            entry = {"bbox": boxes, "category": ["a"] * len(boxes), "area": areas}
            rows.append({"image": path, "image_id": image["id"], "objects": entry})
        splits[name] = datasets.Dataset.from_list(rows).cast_column("image", datasets.Image())
    datasets.DatasetDict(splits).save_to_disk(str(target))
    return target


def edit_texts(root, pattern, change):
    """Apply ``change`` to the text of the files of ``pattern``."""
    files = sorted(root.rglob(pattern))
    assert files
    for file in files:
        file.write_text(change(file.read_text()))


def check(root):
    """The printed check, and its number of errors; a refusal is an error."""
    try:
        result = check_dataset(root)
    except ValueError as error:
        return str(error), 1
    return str(result), result.num_errors


@pytest.mark.parametrize("name", FORMATS)
def test_nothing_is_found_where_nothing_is_wrong(make, name):
    text, errors = check(make(name, with_masks=name == "masks"))
    assert errors == 0
    assert "warning" not in text
    assert "4 objects of 1 classes" in text


@pytest.mark.parametrize("name", FORMATS[:-1])
def test_images_twice_and_in_both_splits(make, name):
    root = make(name)
    first, second, third = (next(root.rglob(f"{number}.png")) for number in (1, 2, 3))
    second.write_bytes(first.read_bytes())
    text, errors = check(root)
    assert re.search(r"warning: 1 x images twice in the split: \S*1\.png = \S*2\.png", text)
    assert errors == 0
    third.write_bytes(first.read_bytes())
    text, errors = check(root)
    assert re.search(r"error: 2 x images of train are also in val|error: 1 x images of train are also in val", text)
    assert errors


@pytest.mark.parametrize("name", FORMATS[:-1])
def test_exif_and_twelve_bits(make, name):
    root = make(name)
    second, third = (next(root.rglob(f"{number}.png")) for number in (2, 3))
    Image.fromarray(np.linspace(0, 4095, 1200).reshape(30, 40).astype(np.uint16)).save(second)
    exif = Image.Exif()
    exif[0x0112] = 3
    Image.open(third).save(third, exif=exif)
    text, errors = check(root)
    assert errors == 0
    assert re.search(r"warning: 1 x 16-bit or float images .*2\.png \(up to 6\.2 %\)", text)
    assert re.search(r"warning: 1 x images turned or mirrored by EXIF .*3\.png", text)


def normalize(box):
    return [round(value / side, 4) for value, side in zip(box, (40, 30) * 2, strict=True)]


@pytest.mark.parametrize("name", ["roboflow", "cvat", "hugging-face", "saved"])
def test_normalized_boxes(make, name):
    if name == "hugging-face":
        root = make(name)
        file = next(root.glob("train/metadata.jsonl"))
        rows = [json.loads(line) for line in file.read_text().splitlines()]
        for row in rows:
            row["objects"]["bbox"] = [normalize(box) for box in row["objects"]["bbox"]]
        file.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    else:
        root = make(name, [normalize(box) for box in BOXES])
    text, errors = check(root)
    assert errors
    assert re.search(r"4 of 4 boxes, such as (.*, ){3}look normalized to 0…1", text)


def test_normalized_boxes_of_voc(make):
    root = make("voc")
    edit_texts(root, "1.xml", lambda text: re.sub(r"<(x|y)(min|max)>\d+<", r"<\1\2>0.5<", text))
    text, errors = check(root)
    assert errors == 4
    assert "image left out, misread box: 4" in text
    assert text.count("looks normalized to 0…1; VOC has pixels") == 4


def test_normalized_shapes_of_labelme(make):
    root = make("labelme")

    def change(text):
        content = json.loads(text)
        for shape in content["shapes"]:
            shape["points"] = [[x / 40, y / 30] for x, y in shape["points"]]
        return json.dumps(content)

    edit_texts(root, "1.json", change)
    text, errors = check(root)
    assert errors
    assert "4 of 4 boxes" in text
    assert "look normalized" in text


def test_pixels_in_yolo(make):
    root = make("yolo")
    edit_texts(root, "1.txt", lambda text: re.sub(r"0\.\d+", "20", text))
    text, errors = check(root)
    assert errors == 4
    assert "image left out, object entry: 4" in text
    assert text.count("it has the coordinate 20; coordinates are fractions") == 4


@pytest.mark.parametrize("name", ["roboflow", "cvat", "hugging-face", "saved"])
def test_corners_are_found_by_their_areas(make, name):
    root = make(name)
    corners = [[left, top, left + width, top + height] for left, top, width, height in BOXES]
    areas = [width * height for _, _, width, height in BOXES]
    if name == "saved":
        datasets = pytest.importorskip("datasets")
        splits = datasets.load_from_disk(str(root))
        splits["train"] = splits["train"].map(
            lambda row: {"objects": {**row["objects"], "bbox": corners, "area": areas}} if row["image_id"] == 1 else row
        )
        root = root.parent / "corners"
        splits.save_to_disk(str(root))
    elif name == "hugging-face":
        file = next(root.glob("train/metadata.jsonl"))
        rows = [json.loads(line) for line in file.read_text().splitlines()]
        rows[0]["objects"] |= {"bbox": corners, "area": areas}
        file.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    else:
        file = next(root.rglob("train*.json") if name == "cvat" else root.rglob("train/*.json"))
        document = json.loads(file.read_text())
        for annotation, box, area in zip(document["annotations"], corners, areas, strict=True):
            annotation |= {"bbox": box, "area": area}
        file.write_text(json.dumps(document))
    text, errors = check(root)
    assert errors
    assert re.search(r"4 of 4 boxes, such as (.*, ){3}look like left, top, right, bottom", text)


def test_corners_in_yolo_are_refused_with_their_number_and_three_examples(make):
    root = make("yolo")
    boxes = [*BOXES[:3], [4, 2, 20, 20]]
    lines = [normalize([left, top, left + width, top + height]) for left, top, width, height in boxes]
    edit_texts(root, "1.txt", lambda text: "".join(f"0 {' '.join(map(str, line))}\n" for line in lines))
    text, errors = check(root)
    assert errors
    assert "4 of 4 boxes, such as labels/train/1.txt, line 1" in text
    assert text.count("1.txt, line") == 3
    assert "look like left, top, right, bottom" in text


def test_sizes_in_voc_are_named(make):
    root = make("voc")
    edit_texts(root, "1.xml", lambda text: re.sub(r"<(x|y)max>\d+<", r"<\1max>2<", text))
    text, errors = check(root)
    assert errors == 4
    assert "image left out, misread box: 4" in text
    assert "not width and height" in text


@pytest.mark.parametrize("name", BOX_FORMATS)
def test_boxes_that_leave_nothing_after_clipping(make, name):
    root = make(name, [*BOXES[:3], [39, 6, 3, 5]]) if name in ("roboflow", "cvat", "saved") else make(name)
    changes = {
        "voc": ("1.xml", lambda text: text.replace("<xmin>21<", "<xmin>61<").replace("<xmax>30<", "<xmax>70<")),
        "yolo": ("1.txt", lambda text: "".join([*text.splitlines(True)[:3], "0 1.3 0.5 0.1 0.1\n"])),
        "labelme": ("1.json", lambda text: re.sub(r"\b20\.0,|\b30\.0,", lambda m: f"{float(m[0][:-1]) + 60},", text)),
        "hugging-face": ("metadata.jsonl", lambda text: text.replace("[20.0, 15.0", "[60.0, 15.0")),
    }
    if name in changes:
        edit_texts(root / "train" if (root / "train").is_dir() else root, *changes[name])
    text, errors = check(root)
    assert errors >= 1
    assert re.search(r"(box outside|broken box): 1\b", text), text


@pytest.mark.parametrize("name", ["roboflow", "cvat", "labelme"])
def test_masks_that_are_empty(make, name):
    root = make(name, with_masks=True)
    if name == "labelme":
        content = json.loads((file := next(root.rglob("1.json"))).read_text())
        content["shapes"][0]["points"] = [[80, 5], [90, 5], [90, 9]]
        file.write_text(json.dumps(content))
    else:
        file = next(root.rglob("train*.json") if name == "cvat" else root.rglob("train/*.json"))
        document = json.loads(file.read_text())
        document["annotations"][0]["segmentation"] = [[80, 5, 90, 5, 90, 9]]
        file.write_text(json.dumps(document))
    text, errors = check(root)
    assert errors
    assert "its mask covers no pixel" in text
    assert "broken segmentation: 1" in text


def test_an_empty_mask_file_of_an_object(tmp_path):
    for number, split in enumerate(("train", "val")):
        for name in ("images", "masks"):
            (tmp_path / split / "a" / name).mkdir(parents=True)
        Image.new("RGB", (40, 30), (90 * number, 60, 30)).save(tmp_path / split / "a/images/a.png")
        mask = np.zeros((30, 40), np.uint8)
        Image.fromarray(mask).save(tmp_path / split / "a/masks/0.png")
        mask[4:9, 5:11] = 255
        Image.fromarray(mask).save(tmp_path / split / "b.png")
        (tmp_path / split / "b.png").rename(tmp_path / split / "a/masks/1.png")
    with pytest.raises(ValueError, match=r"masks/0\.png: it covers no pixel"):
        check_dataset(tmp_path)


def test_masks_of_another_size(make):
    root = make("masks", with_masks=True)
    for file in root.rglob("masks/**/1.png"):
        Image.new("L", (10, 10), 1).save(file)
    text, errors = check(root)
    assert errors
    assert "mask size mismatch: 1" in text


@pytest.mark.parametrize("name", ["yolo", "roboflow", "cvat"])
def test_two_classes_of_one_name(make, name):
    root = make(name)
    if name == "yolo":
        edit_texts(root, "*.yaml", lambda text: re.sub(r"names:.*", "names: [a, a]", text, flags=re.DOTALL))
    else:
        change = {"categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "a"}]}
        edit_texts(root, "*.json", lambda text: json.dumps(json.loads(text) | change))
    text, errors = check(root)
    assert errors
    assert re.search(r"the categories (0 and 1|1 and 2) have one name", text)
