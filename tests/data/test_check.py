"""``featlift data check``: each silent mistake is found, with its count and examples."""

import json

import numpy as np
import pytest
from PIL import Image

from featlift.data.check import check_dataset
from featlift.data.coco_folders import write_synthetic_dataset
from featlift.data.convert import write_coco_dataset
from featlift.data.synthetic.scenes import SyntheticScenes

SMALL = {"image_size": (64, 64), "num_objects": (3, 6), "object_sizes": (6, 40)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("made") / "scenes"
    write_coco_dataset({"train": SyntheticScenes(5, **SMALL), "val": SyntheticScenes(2, **SMALL, first_index=5)}, root)
    return root


def test_check_counts_classes_and_sizes(folder):
    statistics = check_dataset(folder).splits
    assert list(statistics) == ["train", "val"]
    truth = json.loads((folder / "instances_train.json").read_text())
    areas = [a["area"] for a in truth["annotations"]]
    assert statistics["train"].objects_per_size == {
        "tiny": sum(a < 256 for a in areas),
        "small": sum(256 <= a < 1024 for a in areas),
        "medium": sum(1024 <= a < 9216 for a in areas),
        "large": 0,
    }
    names = [c["name"] for c in truth["categories"]]
    for name, number in statistics["train"].objects_per_class.items():
        assert number == sum(names[a["category_id"] - 1] == name for a in truth["annotations"])
    assert not statistics["train"].report.problems
    assert "sizes: tiny" in str(statistics["train"])


def test_check_finds_what_is_broken(tmp_path):
    write_synthetic_dataset(tmp_path / "new", num_train=3, num_val=1, image_size=(64, 64))
    truncated = sorted((tmp_path / "new" / "train").iterdir())[1]
    truncated.write_bytes(truncated.read_bytes()[:3000])
    statistics = check_dataset(tmp_path / "new").splits
    assert statistics["train"].report.problems
    assert not statistics["val"].report.problems
    assert truncated.name in str(statistics["train"])


def test_check_of_no_set_names_the_expected_files(tmp_path):
    with pytest.raises(FileNotFoundError, match="No split 'train'"):
        check_dataset(tmp_path)


BOX = {"image_id": 1, "category_id": 1, "iscrowd": 0}
SQUARE = [[5, 5, 15, 5, 15, 15, 5, 15]]
SILENT_MISTAKES = {  # annotations of train → what the check prints, and whether it is an error
    "fine": ([{**BOX, "bbox": [5, 6, 20, 10], "area": 200}], None, False),
    "corners, by mask": ([{**BOX, "bbox": [5, 5, 15, 15], "segmentation": SQUARE}], "looks like left, top, right, bottom", True),
    "empty mask": ([{**BOX, "bbox": [5, 5, 10, 10], "segmentation": [[50, 5, 60, 5, 60, 9]]}], "covers no pixel", True),
    "mask off its box": ([{**BOX, "bbox": [25, 5, 10, 10], "segmentation": SQUARE}], "does not touch its bbox", True),
    "gone after clipping": ([{**BOX, "bbox": [40, 5, 0.5, 3]}], "has no area inside the image", True),
    "mask elsewhere": ([{**BOX, "bbox": [5, 5, 30, 20], "segmentation": SQUARE}], "warning: 1 x boxes that differ from the extent", False),
    "wrong area": ([{**BOX, "bbox": [5, 5, 10, 10], "segmentation": SQUARE, "area": 500}], "warning: 1 x areas that are not", False),
    "object twice": ([{**BOX, "bbox": [5, 6, 20, 10]}] * 2, "warning: 1 x objects twice: image 1: a at", False),
    "tiny box": ([{**BOX, "bbox": [5, 6, 0.5, 10]}], "warning: 1 x boxes below 1 px", False),
}  # fmt: skip


@pytest.mark.parametrize(("annotations", "message", "is_error"), SILENT_MISTAKES.values(), ids=SILENT_MISTAKES)
def test_mistakes_in_annotations(tmp_path, write_folder, annotations, message, is_error):
    result = check_dataset(write_folder(tmp_path, annotations))
    assert bool(result.num_errors) == is_error
    if message:
        assert message in str(result)
    else:
        assert "warning" not in str(result)


def test_normalized_boxes_are_refused(tmp_path, write_folder):
    boxes = [{**BOX, "bbox": [0.1 * k, 0.2, 0.3, 0.4]} for k in range(1, 6)]
    with pytest.raises(ValueError, match=r"5 of 5 boxes, such as .* look normalized"):
        check_dataset(write_folder(tmp_path, boxes))


def test_corners_are_refused_with_their_number_and_three_examples(tmp_path, write_folder):
    corners = [{**BOX, "bbox": [k, k, k + 10, k + 8], "area": 80} for k in range(2, 7)]
    with pytest.raises(ValueError, match=r"5 of 5 boxes, such as .* look like left, top, right, bottom") as error:
        check_dataset(write_folder(tmp_path, corners))
    assert str(error.value).count("annotations[") == 3


def copy_image(source, target):
    def prepare(root, split, document):
        (root / target).write_bytes((root / source).read_bytes())

    return prepare


@pytest.mark.parametrize(
    ("source", "target", "message", "is_error"),
    [
        ("train/1.png", "train/2.png", "warning: 1 x images twice in the split: 1.png = 2.png", False),
        ("train/1.png", "val/3.png", "error: 1 x images of train are also in val: 1.png = 3.png", True),
    ],
)
def test_the_same_image_twice(tmp_path, write_folder, source, target, message, is_error):
    result = check_dataset(write_folder(tmp_path, [{**BOX, "bbox": [5, 6, 20, 10]}], copy_image(source, target)))
    assert message in str(result)
    assert bool(result.num_errors) == is_error


@pytest.mark.parametrize(
    ("orientation", "message"), [(3, "does not show whether"), (6, "the size in the annotations decides")]
)
def test_exif_orientations_are_counted(tmp_path, write_folder, orientation, message):
    def prepare(root, split, document):
        exif = Image.Exif()
        exif[0x0112] = orientation
        Image.open(root / "val" / "3.png").save(root / "val" / "3.png", exif=exif)

    result = check_dataset(write_folder(tmp_path, [{**BOX, "bbox": [5, 6, 20, 10]}], prepare))
    assert message in str(result.splits["val"])
    assert "3.png" in str(result.splits["val"].findings)


def test_twelve_bits_in_sixteen_are_reported(tmp_path, write_folder):
    def prepare(root, split, document):
        Image.fromarray(np.linspace(0, 4095, 1200).reshape(30, 40).astype(np.uint16)).save(root / "train" / "2.png")

    result = check_dataset(write_folder(tmp_path, [{**BOX, "bbox": [5, 6, 20, 10]}], prepare))
    assert "look dark (12 bits in 16?): 2.png (up to 6.2 %)" in str(result)


def test_other_classes_in_val_are_an_error(tmp_path, write_folder):
    def prepare(root, split, document):
        if split == "val":
            document["categories"] = [{"id": 1, "name": "b"}]

    result = check_dataset(write_folder(tmp_path, [{**BOX, "bbox": [5, 6, 20, 10]}], prepare))
    assert result.num_errors == 1
    assert "val lacks a; train lacks b" in str(result)


def test_two_classes_of_one_name_are_refused(tmp_path, write_folder):
    twice = ({"id": 1, "name": "a"}, {"id": 2, "name": "a"})
    with pytest.raises(ValueError, match="the categories 1 and 2 have one name"):
        check_dataset(write_folder(tmp_path, [], categories=twice))


def test_a_missing_split_is_a_warning(tmp_path, write_folder):
    root = write_folder(tmp_path, [{**BOX, "bbox": [5, 6, 20, 10]}])
    (root / "instances_val.json").unlink()
    result = check_dataset(root)
    assert list(result.splits) == ["train"]
    assert "warning: 1 x there is no split val" in str(result)
