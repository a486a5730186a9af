"""Rare classes are sampled more often, each time with another crop that contains an object."""

import pytest
import torch

from featlift.data.augment import ColorJitter
from featlift.data.class_balance import ClassBalance, RandomObjectCrop, class_balance_weights
from featlift.data.dataset import coco_categories


class Boxes:
    """Three images: class 1 twice in the first and once in the second, class 2 once in the third."""

    classes = ("often", "rare")

    def coco(self):
        pairs = [(1, 1), (1, 1), (2, 1), (3, 2)]
        return {
            "images": [{"id": i} for i in (1, 2, 3)],
            "annotations": [{"image_id": i, "category_id": k} for i, k in pairs],
            "categories": coco_categories(self.classes),
        }


def test_an_image_counts_as_its_rarest_class():
    assert class_balance_weights(Boxes(), min_per_class=6) == [2.0, 2.0, 6.0]
    assert class_balance_weights(Boxes(), min_per_class=1) == [1.0, 1.0, 1.0]


def target(*boxes):
    boxes = torch.tensor(boxes).reshape(-1, 4)
    return {"boxes": boxes, "labels": torch.arange(1, len(boxes) + 1), "area": (boxes[:, 2:] - boxes[:, :2]).prod(1)}


def crops(times, image, objects, size=20):
    generator = torch.Generator().manual_seed(0)
    return [RandomObjectCrop(size)(image, objects, generator) for _ in range(times)]


def test_every_crop_holds_the_middle_of_an_object():
    """The image holds its own coordinates, which locate a crop."""
    rows, columns = torch.meshgrid(torch.arange(60.0), torch.arange(80.0), indexing="ij")
    image = torch.stack((rows, columns, rows))
    objects = target([0.0, 0, 6, 4], [70, 50, 80, 60])
    seen = set()
    for crop, found in crops(60, image, objects):
        assert crop.shape == (3, 20, 20)
        top, left = int(crop[0, 0, 0]), int(crop[1, 0, 0])
        middles = [(2, 3), (55, 75)]
        held = [k for k, (y, x) in enumerate(middles, 1) if top <= y < top + 20 and left <= x < left + 20]
        assert held
        assert set(held) <= set(found["labels"].tolist())
        seen |= {(k, top, left) for k in held}
    assert {k for k, _, _ in seen} == {1, 2}
    assert len(seen) > 5


def test_without_objects_anywhere_and_small_images_as_they_are():
    values = {float(crop[0, 0, 0]) for crop, _ in crops(20, torch.rand(3, 40, 40), target())}
    assert len(values) > 10
    crop, found = crops(1, torch.rand(3, 15, 40), target([1.0, 1, 9, 9]))[0]
    assert crop.shape == (3, 15, 20)
    assert found["labels"].tolist() == [1]


def test_off_it_does_nothing():
    assert ClassBalance().augmentations() == []
    assert ClassBalance().image_weights(Boxes()) is None


def test_on_it_weighs_crops_and_colors():
    config = ClassBalance(min_per_class=6, crop_size=100, color_jitter=0.1)
    crop, colored = config.augmentations(2.0)
    assert isinstance(crop, RandomObjectCrop)
    assert crop.size == 200
    assert isinstance(colored, ColorJitter)
    assert config.image_weights(Boxes()) == [2.0, 2.0, 6.0]


def test_a_crop_has_a_size():
    with pytest.raises(ValueError, match="at least 1"):
        RandomObjectCrop(0)
