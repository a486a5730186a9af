import pickle
from itertools import islice

import pytest
import torch
from PIL import Image

from featlift.data.augment import (
    ColorJitter,
    HalfSizeView,
    MapLabels,
    RandomHorizontalFlip,
    RandomShortestSize,
    drop_masks,
)
from featlift.data.batches import ResumableDataLoader, _collate
from featlift.data.coco import open_coco_split
from featlift.data.crops import RandomCrop, RandomCropOfLargeImages, select_large_images
from featlift.data.image_folder import UnlabeledImageFolder
from featlift.data.synthetic.scenes import SyntheticScenes

AUGMENTATIONS = (RandomHorizontalFlip(), RandomShortestSize((16, 24)), ColorJitter())


class GrayImages:
    """``count`` images of one gray; every third is tall; each has a crowd and an object of class k mod 3."""

    classes = ["a", "b", "c"]

    def __init__(self, count):
        self.count = count

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        height, width = self.image_size(index)
        return torch.full((3, height, width), (index + 1) / 1000), {
            "boxes": torch.tensor([[0.0, 0, 9, 9], [1.0, 1, 8, 8]]),
            "labels": torch.tensor([self.label(index), 1]),
            "iscrowd": torch.tensor([0, 1]),
            "area": torch.tensor([81.0, 49.0]),
            "image_id": torch.tensor(index),
        }

    def label(self, index):
        return 1 + index % 2

    def image_name(self, index):
        return f"{index}.png"

    def image_size(self, index):
        return (30, 20) if index % 3 == 0 else (20, 30)

    def coco(self):
        return {
            "images": [{"id": k} for k in range(self.count)],
            "annotations": [{"image_id": k, "category_id": self.label(k)} for k in range(self.count)],
            "categories": [{"id": k} for k in (1, 2, 3)],
        }


def numbers(batch):
    return [int(target["image_id"]) for target in batch[1]]


def take(batches, count, start=0, **share):
    return list(islice(batches.iter_from(start, **share), count))


def assert_equal(first, second):
    assert len(first) == len(second)
    for (images, targets), (others, other_targets) in zip(first, second, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(images, others, strict=True))
        for a, b in zip(targets, other_targets, strict=True):
            assert a.keys() == b.keys()
            assert all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("step", [1, 4, 5, 17])
def test_a_run_goes_on_where_it_stopped(step):
    whole = take(ResumableDataLoader(GrayImages(13), 3, seed=2, augmentations=AUGMENTATIONS), 20)
    assert_equal(
        take(ResumableDataLoader(GrayImages(13), 3, seed=2, augmentations=AUGMENTATIONS), 20 - step, start=step),
        whole[step:],
    )


@pytest.mark.parametrize("world", [2, 3, 6])
def test_shares_in_order_of_rank_are_the_whole_batch(world):
    batches = ResumableDataLoader(GrayImages(20), 6, augmentations=AUGMENTATIONS)
    shares = [take(batches, 5, rank=rank, world_size=world) for rank in range(world)]
    joined = [([i for s in shares for i in s[k][0]], [t for s in shares for t in s[k][1]]) for k in range(5)]
    assert_equal(joined, take(batches, 5))


def test_workers_change_nothing():
    batches = [
        ResumableDataLoader(GrayImages(9), 2, augmentations=AUGMENTATIONS, num_workers=workers) for workers in (0, 2)
    ]
    assert_equal(take(batches[0], 7, start=3), take(batches[1], 7, start=3))


@pytest.mark.parametrize(
    ("count", "size", "group"), [(12, 4, True), (13, 4, True), (13, 4, False), (3, 8, True), (1, 2, True)]
)
def test_an_epoch_contains_every_image(count, size, group):
    batches = ResumableDataLoader(GrayImages(count), size, group_by_aspect_ratio=group)
    assert batches.batches_per_epoch == -(-count // size)
    epochs = [
        [n for b in take(batches, batches.batches_per_epoch, start=e * batches.batches_per_epoch) for n in numbers(b)]
        for e in range(3)
    ]
    for epoch in epochs:
        assert set(epoch) == set(range(count))
        assert len(epoch) == batches.batches_per_epoch * size
        assert max(epoch.count(n) for n in epoch) <= -(-len(epoch) // count)


def test_epochs_and_seeds_have_orders_of_their_own():
    orders = [
        [numbers(b) for b in take(ResumableDataLoader(GrayImages(30), 3, seed=seed), 10, start=10 * e)]
        for seed in (0, 1)
        for e in (0, 1)
    ]
    assert all(a != b for k, a in enumerate(orders) for b in orders[:k])


def test_an_image_is_augmented_otherwise_each_time():
    images = [
        images[0] for images, _ in take(ResumableDataLoader(GrayImages(1), 1, augmentations=(ColorJitter(0.5),)), 6)
    ]
    assert len({float(image.mean()) for image in images}) == 6


def test_draws_differ_within_a_batch_and_between_batches():
    seen = []

    def note(image, target, generator):
        seen.append(int(torch.randint(2**40, (), generator=generator)))
        return image, target

    take(ResumableDataLoader(GrayImages(4), 4, augmentations=(note,)), 5)
    assert len(set(seen)) == 20


def test_wide_and_tall_images_stay_apart():
    batches = ResumableDataLoader(GrayImages(90), 4)
    mixed = [len({image.shape for image in images}) > 1 for images, _ in take(batches, batches.batches_per_epoch)]
    assert sum(mixed) <= 1
    loose = ResumableDataLoader(GrayImages(90), 4, group_by_aspect_ratio=False)
    assert sum(len({image.shape for image in images}) > 1 for images, _ in take(loose, loose.batches_per_epoch)) > 10


def test_crowds_are_not_trained_on():
    for _, targets in take(ResumableDataLoader(GrayImages(4), 2), 2):
        assert all(target["iscrowd"].tolist() == [0] for target in targets)
        assert all(target["boxes"].tolist() == [[0, 0, 9, 9]] for target in targets)


def test_the_global_random_state_is_left_alone():
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    take(ResumableDataLoader(GrayImages(5), 2, augmentations=AUGMENTATIONS), 3)
    assert torch.equal(torch.rand(4), expected)


def test_weights_are_shares_of_an_epoch():
    batches = ResumableDataLoader(GrayImages(10), 2, image_weights=[5, 1, 1, 1, 1, 1, 0, 0, 0, 0])
    for epoch in range(4):
        indices = [n for b in take(batches, 5, start=5 * epoch) for n in numbers(b)]
        assert [indices.count(n) for n in range(10)] == [5, 1, 1, 1, 1, 1, 0, 0, 0, 0]


def test_fractions_even_out_over_epochs():
    batches = ResumableDataLoader(GrayImages(4), 4, image_weights=[2.5, 0.5, 0.5, 0.5])
    indices = [n for b in take(batches, 400) for n in numbers(b)]
    assert [indices.count(n) / 400 for n in range(4)] == pytest.approx([2.5, 0.5, 0.5, 0.5], abs=0.1)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"dataset": GrayImages(0), "batch_size": 2}, "dataset is empty"),
        ({"dataset": GrayImages(3), "batch_size": 0}, "at least one image"),
        ({"dataset": GrayImages(3), "batch_size": 1, "image_weights": [1.0]}, "1 weights for 3 images"),
        ({"dataset": GrayImages(2), "batch_size": 1, "image_weights": [-1.0, 2.0]}, "not negative"),
        ({"dataset": GrayImages(2), "batch_size": 1, "image_weights": [0.0, 0.0]}, "at least one above 0"),
        ({"dataset": GrayImages(2), "batch_size": 1, "image_weights": [float("nan"), 1.0]}, "finite"),
    ],
)
def test_wrong_settings_are_explained(settings, words):
    with pytest.raises(ValueError, match=words):
        ResumableDataLoader(**settings)


def test_a_batch_that_cannot_be_shared_is_refused():
    with pytest.raises(ValueError, match="4 images cannot be divided among 3 processes; choose a multiple of 3"):
        ResumableDataLoader(GrayImages(9), 4).iter_from(0, rank=0, world_size=3)


def test_what_a_worker_gets_can_be_sent_to_a_spawned_process(coco, tmp_path):
    """macOS and Windows start workers anew: datasets, augmentations and the collate function are pickled."""
    Image.new("RGB", (40, 40)).save(tmp_path / "a.png")
    scenes = SyntheticScenes(4, (64, 64))
    augmentations = [
        drop_masks,
        MapLabels({label: label + 1 for label in range(1, 7)}),
        ColorJitter(),
        HalfSizeView(RandomShortestSize(48)),
        RandomCrop(8),
        RandomCropOfLargeImages(8),
        RandomHorizontalFlip(1.0),
    ]
    datasets = [open_coco_split(coco, "train"), scenes, UnlabeledImageFolder(tmp_path), select_large_images(scenes, 32)]
    for dataset in datasets:
        loader = ResumableDataLoader(dataset, 2, 0, augmentations)
        sent = pickle.loads(pickle.dumps(loader._dataset))
        assert torch.equal(sent[0, 7][0], loader._dataset[0, 7][0])
    assert pickle.loads(pickle.dumps(_collate)) is _collate
