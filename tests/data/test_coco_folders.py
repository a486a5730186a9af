import json

import pytest
import torch

from featlift.data.coco import open_coco_split
from featlift.data.coco_folders import check_dataset, write_synthetic_dataset
from featlift.data.convert import write_coco_dataset
from featlift.data.synthetic.scenes import SyntheticScenes

SMALL = {"image_size": (64, 64), "num_objects": (3, 6), "object_sizes": (6, 40)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("made") / "deep" / "scenes"
    write_coco_dataset({"train": SyntheticScenes(5, **SMALL), "val": SyntheticScenes(2, **SMALL, first_index=5)}, root)
    return root


def test_what_is_written_is_read_back_to_the_bit(folder):
    for split, scenes in (("train", SyntheticScenes(5, **SMALL)), ("val", SyntheticScenes(2, **SMALL, first_index=5))):
        read = open_coco_split(folder, split)
        assert read.classes == scenes.classes
        assert len(read) == len(scenes)
        for index in range(len(scenes)):
            (image, target), (rendered, expected) = read[index], scenes[index]
            assert torch.equal(image, rendered)
            assert target.keys() == expected.keys()
            for name, value in expected.items():
                assert torch.equal(target[name], value), name


def test_nothing_unfinished_is_left_behind(folder):
    assert [path.name for path in folder.parent.iterdir()] == ["scenes"]


def test_a_failure_leaves_no_folder(tmp_path):
    class Torn(SyntheticScenes):
        def __getitem__(self, index):
            if index == 1:
                raise RuntimeError("disk full")
            return super().__getitem__(index)

    with pytest.raises(RuntimeError, match="disk full"):
        write_coco_dataset({"train": Torn(3, **SMALL)}, tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_a_full_folder_is_not_overwritten(folder):
    with pytest.raises(FileExistsError, match="not empty"):
        write_synthetic_dataset(folder)


def test_make_gives_splits_without_a_common_image(tmp_path):
    splits = write_synthetic_dataset(tmp_path / "new", num_train=3, num_val=2, image_size=(80, 64), seed=9)
    assert {name: len(part) for name, part in splits.items()} == {"train": 3, "val": 2}
    names = [{part.image_name(k) for k in range(len(part))} for part in splits.values()]
    assert not names[0] & names[1]
    assert open_coco_split(tmp_path / "new", "val").image_size(1) == (80, 64)


def test_check_counts_classes_and_sizes(folder):
    statistics = check_dataset(folder)
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
    statistics = check_dataset(tmp_path / "new")
    assert statistics["train"].report.problems
    assert not statistics["val"].report.problems
    assert truncated.name in str(statistics["train"])


def test_check_of_no_set_names_the_expected_files(tmp_path):
    with pytest.raises(FileNotFoundError, match="No split 'train'"):
        check_dataset(tmp_path)
