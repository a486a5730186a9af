"""Rare classes come more often, and every time another piece of the picture with an object in it."""

import pytest
import torch

from featlift.data.augment import ColorJitter
from featlift.data.class_balance import ClassBalance, RandomObjectCrop, class_balance_weights
from featlift.data.dataset import coco_categories


class Boxes:
    """Three pictures: class 1 twice in the first and once in the second, class 2 once in the third."""

    classes = ("often", "rare")

    def coco(self):
        pairs = [(1, 1), (1, 1), (2, 1), (3, 2)]
        return {
            "images": [{"id": i} for i in (1, 2, 3)],
            "annotations": [{"image_id": i, "category_id": k} for i, k in pairs],
            "categories": coco_categories(self.classes),
        }


def test_a_picture_counts_as_its_rarest_class():
    assert class_balance_weights(Boxes(), min_per_class=6) == [2.0, 2.0, 6.0]
    assert class_balance_weights(Boxes(), min_per_class=1) == [1.0, 1.0, 1.0]


def target(*boxes):
    boxes = torch.tensor(boxes).reshape(-1, 4)
    return {"boxes": boxes, "labels": torch.arange(1, len(boxes) + 1), "area": (boxes[:, 2:] - boxes[:, :2]).prod(1)}


def cuts(times, image, given, side=20):
    generator = torch.Generator().manual_seed(0)
    return [RandomObjectCrop(side)(image, given, generator) for _ in range(times)]


def test_every_window_holds_the_middle_of_an_object():
    """The picture holds its own coordinates, so that a window says where it is."""
    rows, columns = torch.meshgrid(torch.arange(60.0), torch.arange(80.0), indexing="ij")
    image = torch.stack((rows, columns, rows))
    given = target([0.0, 0, 6, 4], [70, 50, 80, 60])
    seen = set()
    for window, found in cuts(60, image, given):
        assert window.shape == (3, 20, 20)
        top, left = int(window[0, 0, 0]), int(window[1, 0, 0])
        middles = [(2, 3), (55, 75)]
        held = [k for k, (y, x) in enumerate(middles, 1) if top <= y < top + 20 and left <= x < left + 20]
        assert held
        assert set(held) <= set(found["labels"].tolist())
        seen |= {(k, top, left) for k in held}
    assert {k for k, _, _ in seen} == {1, 2}
    assert len(seen) > 5


def test_without_objects_anywhere_and_small_pictures_as_they_are():
    places = {float(window[0, 0, 0]) for window, _ in cuts(20, torch.rand(3, 40, 40), target())}
    assert len(places) > 10
    window, found = cuts(1, torch.rand(3, 15, 40), target([1.0, 1, 9, 9]))[0]
    assert window.shape == (3, 15, 20)
    assert found["labels"].tolist() == [1]


def test_off_it_does_nothing():
    assert ClassBalance().augmentations() == []
    assert ClassBalance().image_weights(Boxes()) is None


def test_on_it_weighs_cuts_and_colors():
    how = ClassBalance(min_per_class=6, crop_size=100, color_jitter=0.1)
    cut, colored = how.augmentations(2.0)
    assert isinstance(cut, RandomObjectCrop)
    assert cut.size == 200
    assert isinstance(colored, ColorJitter)
    assert how.image_weights(Boxes()) == [2.0, 2.0, 6.0]


def test_a_window_has_a_side():
    with pytest.raises(ValueError, match="at least 1"):
        RandomObjectCrop(0)
