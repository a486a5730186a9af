import torch

from featlift.data.dataset import ImageDataset, coco_categories, drop_crowds
from featlift.data.synthetic.scenes import SyntheticScenes


def test_categories_are_numbered_from_one():
    assert coco_categories(["cat", "dog"]) == [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]


def test_scenes_implement_the_protocol():
    assert isinstance(SyntheticScenes(1), ImageDataset)


def test_crowds_are_removed_with_all_their_entries():
    target = {
        "boxes": torch.tensor([[0.0, 0, 4, 4], [1.0, 1, 9, 9]]),
        "labels": torch.tensor([3, 5]),
        "iscrowd": torch.tensor([1, 0]),
        "area": torch.tensor([16.0, 64]),
        "masks": torch.stack([torch.zeros(9, 9), torch.ones(9, 9)]),
        "image_id": torch.tensor(7),
    }
    kept = drop_crowds(target)
    assert kept["labels"].tolist() == [5]
    assert kept["boxes"].tolist() == [[1, 1, 9, 9]]
    assert kept["masks"].sum() == 81
    assert kept["image_id"] == 7
