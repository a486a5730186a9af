"""Data settings: of a run, of synthetic scenes, of an image folder."""

from dataclasses import replace

import pytest

from featlift.baseline import Settings
from featlift.data import coco_folders
from featlift.data.config import DataConfig, build_dataset, build_train_loader, load_data_config


def test_the_data_of_a_run(run, model, data, stage, tmp_path):
    dataset = data(min_size=(48, 64), num_scenes=7, val_root="others")
    folder = run(Settings(model("nearest"), dataset, stage())).folder
    assert load_data_config(folder) == dataset
    assert load_data_config(folder, "elsewhere") == replace(dataset, root="elsewhere", val_root="")
    file = folder / "detector.safetensors"
    file.touch()
    assert load_data_config(file) == dataset
    assert load_data_config(tmp_path, "scenes") == DataConfig()
    with pytest.raises(FileNotFoundError, match="no run folder"):
        load_data_config(tmp_path)


def test_training_and_validation_scenes_differ(data):
    train, val = (build_dataset(data(), split) for split in ("train", "val"))
    assert (len(train), len(val)) == (4, 2)
    names = [{dataset.image_name(i) for i in range(len(dataset))} for dataset in (train, val)]
    assert not names[0] & names[1]


def test_an_image_folder(data, tmp_path):
    coco_folders.write_synthetic_dataset(tmp_path / "coco", 2, 1, (64, 64), 0)
    dataset = build_dataset(data(root=str(tmp_path / "coco")), "train")
    assert len(dataset) == 2
    images, targets = next(
        build_train_loader(data(min_size=(32,), max_size=40, hflip_prob=0.0), dataset, 0).iter_from(0)
    )
    assert [tuple(image.shape) for image in images] == [(3, 32, 32)] * 2
    assert all(len(target["boxes"]) and target["boxes"].max() <= 32 for target in targets)


def test_validation_images_in_another_folder(data, tmp_path):
    coco_folders.write_synthetic_dataset(tmp_path / "a", 2, 1, (64, 64), 0)
    coco_folders.write_synthetic_dataset(tmp_path / "b", 1, 3, (64, 64), 5)
    config = data(root=str(tmp_path / "a"), val_root=str(tmp_path / "b"))
    assert [len(build_dataset(config, split)) for split in ("train", "val")] == [2, 3]
    assert build_dataset(config, "val")[0][0].equal(build_dataset(data(root=str(tmp_path / "b")), "val")[0][0])


@pytest.mark.parametrize("sizes", [(0,), (640, -1)])
def test_sizes_that_are_not_positive_are_refused(sizes):
    with pytest.raises(ValueError, match=r"--data\.min-size is"):
        DataConfig(min_size=sizes)


def test_crops_after_resizing(data):
    config = data(min_size=(32, 96), crop_size=48, hflip_prob=0.0)
    batches = build_train_loader(config, build_dataset(config), 0).iter_from(0)
    sizes = {tuple(image.shape) for _ in range(8) for image in next(batches)[0]}
    assert sizes == {(3, 32, 32), (3, 48, 48)}
    with pytest.raises(ValueError, match=r"set --data\.crop-size 0"):
        build_train_loader(config, build_dataset(config), 0, with_half_size=True)
    with pytest.raises(ValueError, match=r"--data\.crop-size is -1"):
        data(crop_size=-1)


def test_scenes_of_another_seed(data):
    names = ["train", "val"]
    first, second = ([build_dataset(data(scene_seed=seed), name)[0][0] for name in names] for seed in (0, 1))
    assert not any(a.equal(b) for a, b in zip(first, second, strict=True))


def test_sizes_of_the_signs(data):
    boxes = build_dataset(data(scene_object_sizes=(20, 24)))[0][1]["boxes"]
    assert (boxes[:, 2:] - boxes[:, :2]).max() > 18
    assert (boxes[:, 2:] - boxes[:, :2]).min() > 8


def test_images_without_masks(data):
    for with_masks in (True, False):
        config = data(with_masks=with_masks, min_size=(48,))
        image, target = (part[0] for part in next(build_train_loader(config, build_dataset(config), 0).iter_from(0)))
        assert ("masks" in target) == with_masks
        assert target["area"].shape == target["labels"].shape
        assert image.shape == (3, 48, 48)


def test_masks_that_are_not_used_are_not_decoded(data, tmp_path, monkeypatch):
    coco_folders.write_synthetic_dataset(tmp_path / "coco", 2, 1, (64, 64), 0)
    config = data(root=str(tmp_path / "coco"))
    assert "masks" in build_dataset(config, "val")[0][1]
    monkeypatch.delattr("featlift.data.coco.rle_to_mask")
    boxes = build_dataset(replace(config, with_masks=False), "train")[0][1]
    assert "masks" not in boxes
    assert len(boxes["boxes"])
