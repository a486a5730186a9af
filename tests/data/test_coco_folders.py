import json

import pytest
import torch

from featlift.data.coco import open_split
from featlift.data.coco_folders import check, export_coco, make
from featlift.data.synthetic.scenes import Scenes

SMALL = {"size": (64, 64), "objects": (3, 6), "sides": (6, 40)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("made") / "deep" / "scenes"
    export_coco({"train": Scenes(5, **SMALL), "val": Scenes(2, **SMALL, first=5)}, root)
    return root


def test_what_is_written_is_read_back_to_the_bit(folder):
    for split, scenes in (("train", Scenes(5, **SMALL)), ("val", Scenes(2, **SMALL, first=5))):
        read = open_split(folder, split)
        assert read.classes == scenes.classes
        assert len(read) == len(scenes)
        for index in range(len(scenes)):
            (image, target), (painted, expected) = read[index], scenes[index]
            assert torch.equal(image, painted)
            assert target.keys() == expected.keys()
            for name, value in expected.items():
                assert torch.equal(target[name], value), name


def test_nothing_unfinished_is_left_behind(folder):
    assert [path.name for path in folder.parent.iterdir()] == ["scenes"]


def test_a_failure_leaves_no_folder(tmp_path):
    class Torn(Scenes):
        def __getitem__(self, index):
            if index == 1:
                raise RuntimeError("no more paint")
            return super().__getitem__(index)

    with pytest.raises(RuntimeError, match="no more paint"):
        export_coco({"train": Torn(3, **SMALL)}, tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_a_full_folder_is_not_overwritten(folder):
    with pytest.raises(FileExistsError, match="not empty"):
        make(folder)


def test_make_gives_splits_without_a_common_picture(tmp_path):
    splits = make(tmp_path / "new", train=3, val=2, size=(80, 64), seed=9)
    assert {name: len(part) for name, part in splits.items()} == {"train": 3, "val": 2}
    names = [{part.name(k) for k in range(len(part))} for part in splits.values()]
    assert not names[0] & names[1]
    assert open_split(tmp_path / "new", "val").size(1) == (80, 64)


def test_check_counts_classes_and_sizes(folder):
    found = check(folder)
    assert list(found) == ["train", "val"]
    truth = json.loads((folder / "instances_train.json").read_text())
    areas = [a["area"] for a in truth["annotations"]]
    assert found["train"].per_size == {
        "tiny": sum(a < 256 for a in areas),
        "small": sum(256 <= a < 1024 for a in areas),
        "medium": sum(1024 <= a < 9216 for a in areas),
        "large": 0,
    }
    names = [c["name"] for c in truth["categories"]]
    for name, number in found["train"].per_class.items():
        assert number == sum(names[a["category_id"] - 1] == name for a in truth["annotations"])
    assert found["train"].sound
    assert "sizes: tiny" in str(found["train"])


def test_check_finds_what_is_broken(tmp_path):
    make(tmp_path / "new", train=3, val=1, size=(64, 64))
    cut = sorted((tmp_path / "new" / "train").iterdir())[1]
    cut.write_bytes(cut.read_bytes()[:3000])
    found = check(tmp_path / "new")
    assert not found["train"].sound
    assert found["val"].sound
    assert cut.name in str(found["train"])


def test_check_of_no_set_says_what_was_looked_for(tmp_path):
    with pytest.raises(FileNotFoundError, match="No split 'train'"):
        check(tmp_path)
