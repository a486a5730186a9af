import hashlib

import numpy as np
import pytest
import torch

from featlift.data.synthetic.scenes import SIGN_CLASSES, SyntheticScenes


def test_bytes_are_the_same_on_every_machine():
    digest = hashlib.sha256()
    for scenes in (
        SyntheticScenes(2),
        SyntheticScenes(1, image_size=(97, 210), seed=5, object_sizes=(5, 60), first_index=11),
    ):
        for index in range(len(scenes)):
            image, instance_map, labels = scenes.render(index)
            digest.update(image.tobytes() + instance_map.astype("<i4").tobytes() + bytes(labels))
    assert digest.hexdigest() == "97ea75ecc32b646124e58c868ad66acbd8dbb48f40c5507d4df8a44ebd2c5841"


def test_an_item_is_a_function_of_seed_and_index_alone():
    many, few, shifted = (
        SyntheticScenes(50, seed=3),
        SyntheticScenes(2, seed=3),
        SyntheticScenes(1, seed=3, first_index=1),
    )
    many[7]
    assert torch.equal(many[1][0], few[1][0])
    assert torch.equal(many[1][0], shifted[0][0])
    assert many[1][1]["image_id"] == shifted[0][1]["image_id"] == 2
    assert not torch.equal(many[1][0], SyntheticScenes(2, seed=4)[1][0])
    assert not torch.equal(many[1][0], many[2][0])


@pytest.mark.parametrize("size", [(160, 160), (64, 200), (301, 127)])
def test_targets_fit_their_images(size):
    image, target = SyntheticScenes(1, image_size=size)[0]
    count = len(target["labels"])
    assert image.shape == (3, *size)
    assert image.dtype == torch.float32
    assert 0 <= image.min() < image.max() <= 1
    assert target["masks"].shape == (count, *size)
    assert target["masks"].dtype == torch.uint8
    assert set(target["labels"].tolist()) <= set(range(1, len(SIGN_CLASSES) + 1))


def test_boxes_are_tight_around_masks_that_do_not_overlap():
    for index in range(5):
        _, target = SyntheticScenes(5)[index]
        assert target["masks"].sum(0).max() == 1
        for box, mask, area in zip(target["boxes"].tolist(), target["masks"], target["area"], strict=True):
            points = mask.nonzero()
            (top, left), (bottom, right) = points.amin(0).tolist(), points.amax(0).tolist()
            assert box == [left, top, right + 1, bottom + 1]
            assert area == len(points)


def test_numbers_and_sizes_are_as_requested():
    scenes = SyntheticScenes(30, num_objects=(3, 5), object_sizes=(10, 20), image_size=(200, 200))
    targets = [scenes[k][1] for k in range(30)]
    assert {len(t["labels"]) for t in targets} == {3, 4, 5}
    sides = torch.cat([(t["boxes"][:, 2:] - t["boxes"][:, :2]).amax(1) for t in targets])
    assert sides.max() <= 20 * 1.3 + 4  # rotated by up to 12.5°, motion-blurred, and rounded to whole pixels
    assert sides.min() >= 10 * 0.6


def test_most_default_objects_are_small_and_classes_are_even():
    scenes = SyntheticScenes(60)
    targets = [scenes[k][1] for k in range(60)]
    assert 8 <= np.mean([len(t["labels"]) for t in targets]) <= 14
    area = torch.cat([t["area"] for t in targets])
    assert (area < 16**2).float().mean() > 0.4
    assert (area > 24**2).float().mean() > 0.05
    counts = torch.bincount(torch.cat([t["labels"] for t in targets]))[1:]
    assert counts.max() < 1.6 * counts.min()


def test_a_scene_may_be_empty():
    _, target = SyntheticScenes(1, num_objects=(0, 0))[0]
    assert target["boxes"].shape == (0, 4)
    assert target["masks"].shape == (0, 160, 160)


def test_some_classes_only():
    scenes = SyntheticScenes(3, classes=("up", "down"))
    assert scenes.classes == ["up", "down"]
    assert set(torch.cat([scenes[k][1]["labels"] for k in range(3)]).tolist()) == {1, 2}


def test_ground_truth_agrees_with_the_targets():
    scenes = SyntheticScenes(2, first_index=40)
    truth = scenes.coco()
    assert [image["id"] for image in truth["images"]] == [41, 42]
    assert [c["name"] for c in truth["categories"]] == list(SIGN_CLASSES)
    mine = [a for a in truth["annotations"] if a["image_id"] == 42]
    left, top, right, bottom = scenes[1][1]["boxes"][0].tolist()
    assert mine[0]["bbox"] == [left, top, right - left, bottom - top]
    assert [a["area"] for a in mine] == scenes[1][1]["area"].tolist()


def test_looping_ends_and_negative_places_count_from_the_end():
    scenes = SyntheticScenes(3, image_size=(48, 48), num_objects=(1, 2))
    assert len(list(scenes)) == 3
    assert torch.equal(scenes[-1][0], scenes[2][0])
    with pytest.raises(IndexError, match="Index 3 is out of range for 3"):
        scenes[3]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"num_images": 0}, "at least one scene"),
        ({"num_images": 1, "num_objects": (9, 3)}, "minimum and maximum number"),
        ({"num_images": 1, "object_sizes": (1, 9)}, "at least 3"),
        ({"num_images": 1, "image_size": (30, 100)}, "too small for signs of 40 px"),
        ({"num_images": 1, "classes": ("upp",)}, "three, eight"),
        ({"num_images": 1, "classes": ()}, "at least one of"),
    ],
)
def test_wrong_settings_are_explained(settings, words):
    with pytest.raises(ValueError, match=words):
        SyntheticScenes(**settings)
