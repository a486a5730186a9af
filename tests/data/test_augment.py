import pytest
import torch

from featlift.data.augment import (
    ColorJitter,
    MapLabels,
    RandomHorizontalFlip,
    RandomShortestSize,
    crop_sample,
    rescale_sample,
)
from featlift.data.synthetic.scenes import SyntheticScenes


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def sample(height=20, width=30):
    """One object with a mask that fills its box (4, 6)-(14, 16), and one without a pixel in common with it, bottom
    right.
    """
    masks = torch.zeros(2, height, width, dtype=torch.uint8)
    masks[0, 6:16, 4:14] = 1
    masks[1, height - 4 :, width - 6 :] = 1
    target = {
        "boxes": torch.tensor([[4.0, 6, 14, 16], [width - 6.0, height - 4.0, width, height]]),
        "labels": torch.tensor([1, 2]),
        "iscrowd": torch.tensor([0, 0]),
        "area": torch.tensor([100.0, 24.0]),
        "image_id": torch.tensor(3),
        "masks": masks,
    }
    return masks.amax(0).float().repeat(3, 1, 1), target


def assert_consistent(image, target):
    """Boxes are those of the masks, to a pixel, and the image shows the masks."""
    for box, mask in zip(target["boxes"], target["masks"], strict=True):
        points = mask.nonzero().float()
        expected = torch.cat([points.amin(0).flip(0), points.amax(0).flip(0) + 1])
        torch.testing.assert_close(box, expected, atol=1.0, rtol=0)
    assert target["masks"].shape[1:] == image.shape[1:]
    if len(target["masks"]):
        assert (image[0] - target["masks"].amax(0).float()).abs().mean() < 0.06


def test_flip_by_hand():
    image, target = RandomHorizontalFlip(1.0)(*sample(), rng())
    assert target["boxes"].tolist() == [[16, 6, 26, 16], [0, 16, 6, 20]]
    assert_consistent(image, target)


def test_flip_twice_is_nothing_and_never_is_never():
    image, target = sample()
    again = RandomHorizontalFlip(1.0)(*RandomHorizontalFlip(1.0)(image, target, rng()), rng())
    assert torch.equal(again[0], image)
    assert torch.equal(again[1]["boxes"], target["boxes"])
    assert RandomHorizontalFlip(0.0)(image, target, rng())[0] is image


def test_flip_happens_as_often_as_it_should():
    generator, (image, target) = rng(), sample()
    flipped = sum(RandomHorizontalFlip(0.25)(image, target, generator)[0] is not image for _ in range(2000))
    assert flipped == pytest.approx(500, abs=80)


@pytest.mark.parametrize(
    ("size", "min_size", "max_size", "expected"),
    [
        ((20, 30), 40, 1333, (40, 60)),
        ((20, 30), 40, 45, (30, 45)),
        ((90, 30), 15, 1333, (45, 15)),
        ((20, 30), 20, 99, (20, 30)),
    ],
)
def test_resize_by_hand(size, min_size, max_size, expected):
    image, target = RandomShortestSize(min_size, max_size)(*sample(*size), rng())
    assert image.shape == (3, *expected)
    factor = expected[0] / size[0]
    assert target["boxes"][0].tolist() == pytest.approx([4 * factor, 6 * factor, 14 * factor, 16 * factor])
    assert target["area"].tolist() == pytest.approx([100 * factor**2, 24 * factor**2])
    assert_consistent(image, target)


def test_resize_draws_all_its_sizes():
    generator = rng()
    heights = {RandomShortestSize([8, 10, 12])(*sample(), generator)[0].shape[1] for _ in range(40)}
    assert heights == {8, 10, 12}


def test_cropping_by_hand():
    image, target = crop_sample(*sample(), (8, 0, 10, 10))
    assert image.shape == (3, 10, 10)
    assert target["boxes"].tolist() == [[4, 0, 10, 8]]
    assert target["labels"].tolist() == [1]
    assert target["area"].tolist() == [48]
    assert target["image_id"] == 3
    assert_consistent(image, target)


def test_areas_without_masks_follow_the_boxes():
    image, target = sample()
    del target["masks"]
    assert crop_sample(image, target, (8, 0, 10, 10))[1]["area"].tolist() == [48]


def test_an_object_of_which_only_the_box_is_seen_leaves():
    image, target = sample()
    target["masks"][0, :, :10] = 0
    assert len(crop_sample(image, target, (0, 0, 20, 10))[1]["labels"]) == 0
    assert len(crop_sample(image, target, (0, 0, 20, 12))[1]["labels"]) == 1


def test_slivers_leave():
    assert len(crop_sample(*sample(), (0, 13, 20, 10), min_box_size=2.0)[1]["labels"]) == 0
    assert len(crop_sample(*sample(), (0, 12, 20, 10), min_box_size=2.0)[1]["labels"]) == 1


def test_colors_change_within_their_range_and_boxes_do_not():
    image, target = SyntheticScenes(1)[0]
    shots = [ColorJitter(0.5, 0.0, 0.0)(image, target, rng(k)) for k in range(40)]
    assert all(shot[1] is target for shot in shots)
    ratios = torch.stack([shot[0].mean() / image.mean() for shot in shots])
    assert 0.49 < ratios.min() < 0.7
    assert 1.2 < ratios.max() < 1.51
    assert all(shot.min() >= 0 and shot.max() <= 1 for shot, _ in shots)


def test_no_strength_changes_nothing():
    image, target = SyntheticScenes(1)[0]
    torch.testing.assert_close(ColorJitter(0, 0, 0)(image, target, rng())[0], image)


@pytest.mark.parametrize("change", [RandomHorizontalFlip(), RandomShortestSize([64, 96]), ColorJitter()])
def test_chance_comes_from_the_generator_alone(change):
    torch.manual_seed(1)
    first = change(*SyntheticScenes(1)[0], rng(5))
    torch.manual_seed(2)
    second = change(*SyntheticScenes(1)[0], rng(5))
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1]["boxes"], second[1]["boxes"])


@pytest.mark.parametrize("change", [RandomHorizontalFlip(1.0), RandomShortestSize(10), ColorJitter()])
def test_images_without_objects_pass(change):
    image, target = SyntheticScenes(1, num_objects=(0, 0), image_size=(40, 50))[0]
    changed, empty = change(image, target, rng())
    assert empty["boxes"].shape == (0, 4)
    assert empty["masks"].shape == (0, *changed.shape[1:])


def test_the_given_target_is_not_changed():
    image, target = sample()
    copy = {name: value.clone() for name, value in target.items()}
    for change in (RandomHorizontalFlip(1.0), RandomShortestSize(13), ColorJitter()):
        change(image, target, rng())
    rescale_sample(image, target, 2.0)
    assert all(torch.equal(target[name], value) for name, value in copy.items())


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: RandomShortestSize([]),
        lambda: RandomShortestSize(0),
    ],
)
def test_wrong_settings_are_refused(wrong):
    with pytest.raises(ValueError, match=r"give|sizes are"):
        wrong()


def test_labels_of_a_detector_of_another_dataset():
    image, target = sample()
    target["labels"] = torch.tensor([2, 0])
    same, mapped = MapLabels({1: 44, 2: 13})(image, target, rng())
    assert mapped["labels"].tolist() == [13, 0]
    assert same is image
    assert mapped["boxes"] is target["boxes"]
