import pytest
import torch

from featlift.data.coco import open_coco_split
from featlift.data.coco_folders import write_synthetic_dataset
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
