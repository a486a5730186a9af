import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import tv_tensors

from featlift.data.config import DataConfig, build_dataset
from featlift.data.dataset import ImageDataset
from featlift.data.fingerprint import dataset_fingerprint
from featlift.data.formats.torch_dataset import (
    TorchDataset,
    open_registered,
    register_dataset,
    register_training_data,
)

BOX = [2.0, 3.0, 12.0, 9.0]


class Boxes(torch.utils.data.Dataset):
    """torchvision's contract; ``change`` edits image and target."""

    def __init__(self, change=lambda image, target: (image, target), number=3):
        self.change, self.number = change, number

    def __len__(self):
        return self.number

    def __getitem__(self, index):
        target = {"boxes": torch.tensor([BOX]), "labels": torch.tensor([2])}
        return self.change(torch.full((3, 20, 30), 0.5), target)


def test_torchvisions_contract():
    dataset = TorchDataset(Boxes(), ["cat", "fox"])
    assert isinstance(dataset, ImageDataset)
    image, target = dataset[1]
    assert image.shape == (3, 20, 30)
    assert {name: value.tolist() for name, value in target.items()} == {
        "boxes": [BOX], "labels": [2], "iscrowd": [0], "area": [60], "image_id": 2,
    }  # fmt: skip
    assert dataset.image_size(0) == (20, 30)
    truth = dataset.coco()
    assert [a["bbox"] for a in truth["annotations"]] == [[2, 3, 10, 6]] * 3
    assert [a["id"] for a in truth["annotations"]] == [1, 2, 3]
    assert len(dataset_fingerprint(dataset)) == 16


@pytest.mark.parametrize(
    "image",
    [
        Image.fromarray(np.full((20, 30, 3), 128, np.uint8)),
        np.full((20, 30, 3), 128, np.uint8),
        torch.full((3, 20, 30), 128, dtype=torch.uint8),
        tv_tensors.Image(torch.full((1, 20, 30), 128, dtype=torch.uint8)),
    ],
    ids=["PIL", "numpy", "uint8", "gray"],
)
def test_forms_of_images(image):
    pixels = TorchDataset(Boxes(lambda _, target: (image, target)), ["a", "b"])[0][0]
    assert pixels.shape == (3, 20, 30)
    assert pixels.unique().tolist() == pytest.approx([128 / 255])


def test_masks_and_tv_tensors():
    def change(image, target):
        masks = torch.zeros(1, 20, 30, dtype=torch.bool)
        masks[0, 3:9, 2:7] = True
        boxes = tv_tensors.BoundingBoxes(target["boxes"], format="XYXY", canvas_size=(20, 30))
        return image, {**target, "boxes": boxes, "masks": tv_tensors.Mask(masks), "area": torch.tensor([30.0])}

    dataset = TorchDataset(Boxes(change), ["a", "b"])
    assert dataset[0][1]["masks"].sum() == 30
    assert type(dataset[0][1]["boxes"]) is torch.Tensor
    assert dataset.coco()["annotations"][0]["segmentation"]["size"] == [20, 30]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda i, t: (i * 4, t), "not normalized"),
        (lambda i, t: (i[0], t), r"shape \[20, 30\]"),
        (lambda i, t: (i, t | {"labels": torch.tensor([0])}), "0 is the background"),
        (lambda i, t: (i, t | {"labels": torch.tensor([1, 2])}), "1 boxes and 2 labels"),
        (lambda i, t: (i, t | {"boxes": torch.tensor([[5.0, 5.0, 5.0, 9.0]])}), "no xyxy box"),
        (lambda i, t: (i, t | {"boxes": torch.tensor([[20.0, 2.0, 40.0, 9.0]])}), "no xyxy box"),
        (lambda i, t: (i, {"labels": t["labels"]}), "boxes"),
        (lambda i, t: (i, t | {"masks": torch.zeros(1, 4, 4)}), "masks have the shape"),
    ],
)
def test_an_item_that_breaks_the_contract_is_named(change, message):
    with pytest.raises(ValueError, match=f"Item 0 of the dataset: .*{message}"):
        TorchDataset(Boxes(change), ["a", "b"])[0]


def test_a_registered_dataset_is_opened_by_its_name():
    root = register_dataset("boxes", {"train": Boxes(), "val": Boxes(number=1)}, ["cat", "fox"])
    assert root == "python:boxes"
    assert [len(build_dataset(DataConfig(root=root), split)) for split in ("train", "val")] == [3, 1]
    with pytest.raises(FileNotFoundError, match="it has train, val"):
        open_registered(root, "test")
    with pytest.raises(ValueError, match="boxes"):
        open_registered("python:bokses", "train")


def test_a_single_dataset_of_a_training_is_divided():
    root = register_training_data("run", Boxes(number=21), ["cat", "fox"])
    train, val = (open_registered(root, split) for split in ("train", "val"))
    names = [[dataset.image_name(index) for index in range(len(dataset))] for dataset in (train, val)]
    assert names[1] == ["000000", "000010", "000020"]
    assert sorted(names[0] + names[1]) == [f"{index:06d}" for index in range(21)]
    with pytest.raises(ValueError, match="1 images"):
        register_training_data("run", Boxes(number=1), ["cat", "fox"])


def test_classes_are_those_of_the_dataset():
    boxes = Boxes()
    with pytest.raises(ValueError, match="needs the names of its classes"):
        register_training_data("run", {"train": boxes})
    boxes.classes = ["cat", "fox"]
    assert open_registered(register_training_data("run", {"train": boxes}), "train").classes == ["cat", "fox"]
