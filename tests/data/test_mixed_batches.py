import torch

from featlift.data.batches import ResumableDataLoader
from featlift.data.mixed_batches import MixedDataLoader


class Numbered:
    """``number`` images of 4x4 px, of the value ``first + index``, without objects."""

    def __init__(self, number, first):
        self.number, self.first, self.classes, self.category_ids = number, first, ["object"], [1]

    def __len__(self):
        return self.number

    def __getitem__(self, index):
        empty = torch.zeros(0, dtype=torch.int64)
        target = {"boxes": torch.zeros(0, 4), "labels": empty, "iscrowd": empty, "area": torch.zeros(0)}
        return torch.full((3, 4, 4), float(self.first + index)), target | {"image_id": torch.tensor(index)}

    def image_name(self, index):
        return f"{self.first + index}.png"

    def image_size(self, index):
        return 4, 4

    def coco(self):
        images = [{"id": i, "file_name": self.image_name(i), "height": 4, "width": 4} for i in range(self.number)]
        return {"images": images, "annotations": [], "categories": [{"id": 1, "name": "object"}]}


def make(first_size=4, second_size=2):
    return (
        ResumableDataLoader(Numbered(5, 0), first_size, seed=1),
        ResumableDataLoader(Numbered(7, 100), second_size, seed=1),
    )


def values(batches, count=6):
    return [[int(image[0, 0, 0]) for image in next(batches)[0]] for _ in range(count)]


def test_a_batch_is_one_of_each_loader():
    first, second = make()
    mixed = MixedDataLoader(first, second)
    expected = [a + b for a, b in zip(values(first.iter_from(0)), values(second.iter_from(0)), strict=True)]
    assert values(mixed.iter_from(0)) == expected
    assert values(mixed.iter_from(2), 4) == expected[2:]
    assert all(sum(value >= 100 for value in batch) == 2 for batch in expected)
    assert mixed.batch_size == 6


def test_processes_get_their_part_of_both():
    mixed = MixedDataLoader(*make())
    whole = values(mixed.iter_from(0), 3)
    parts = [values(mixed.iter_from(0, rank, 2), 3) for rank in range(2)]
    for k in range(3):
        assert [len(part[k]) for part in parts] == [3, 3]
        assert parts[0][k][:2] + parts[1][k][:2] + parts[0][k][2:] + parts[1][k][2:] == whole[k]


def test_other_images_have_another_fingerprint():
    first, second = make()
    same = MixedDataLoader(*make()).fingerprint
    assert MixedDataLoader(first, second).fingerprint == same
    assert MixedDataLoader(second, first).fingerprint != same
