from pathlib import Path

import pytest

from featlift.data.formats.splits import choose_split, find_classes, split_folders, split_of


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train", "train"),
        ("instances_train2017.json", "train"),
        ("valid", "val"),
        ("Validation", "val"),
        ("my-test-set", "test"),
        ("trainval", "all"),
        ("evaluation", "all"),
    ],
)
def test_the_split_in_a_name(name, split):
    assert split_of(name) == split


def test_split_folders(tmp_path):
    assert split_folders(tmp_path) == {"all": tmp_path}
    for name in ("train", "valid", "images"):
        (tmp_path / name).mkdir()
    assert split_folders(tmp_path) == {"train": tmp_path / "train", "val": tmp_path / "valid"}


def test_the_split_that_is_meant():
    root = Path("data")
    assert choose_split(root, "valid", ["train", "val"]) == "val"
    assert choose_split(root, "val", ["train", "test"]) == "test"
    assert [choose_split(root, split, ["all"]) for split in ("train", "all")] == ["all", "all"]
    with pytest.raises(FileNotFoundError, match=r"data convert data NEW --val-fraction"):
        choose_split(root, "val", ["all"])
    with pytest.raises(FileNotFoundError, match="it has train, val"):
        choose_split(root, "test", ["train", "val"])


def test_classes_without_objects_come_from_a_class_file(tmp_path):
    assert find_classes(tmp_path, {"b", "a"}) == ["a", "b"]
    (tmp_path / "classes.txt").write_text("c\nb\na\n")
    assert find_classes(tmp_path, {"b", "a"}) == ["c", "b", "a"]
    assert find_classes(tmp_path, {"b", "z"}) == ["b", "z"]
