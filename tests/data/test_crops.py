import pytest
import torch

from featlift.data.crops import RandomCrop, RandomCropOfLargeImages, select_large_images
from featlift.data.synthetic.scenes import SyntheticScenes


def example(height=30, width=40):
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    image = torch.stack([rows, columns, torch.zeros_like(rows)]).float()
    boxes = torch.tensor([[5.0, 5.0, 15.0, 15.0], [0.0, 0.0, 40.0, 30.0]])
    ones = torch.ones(2)
    return image, {
        "boxes": boxes,
        "labels": ones.long(),
        "iscrowd": ones.long() * 0,
        "area": ones,
        "image_id": torch.tensor(1),
    }


def test_boxes_move_with_the_crop():
    image, target = example()
    for seed in range(8):
        crop, moved = RandomCrop(20)(image, target, torch.Generator().manual_seed(seed))
        assert crop.shape == (3, 20, 20)
        top, left = int(crop[0, 0, 0]), int(crop[1, 0, 0])
        expected = target["boxes"] - torch.tensor([left, top, left, top])
        expected = expected.clamp(0, 20)
        expected = expected[((expected[:, 2:] - expected[:, :2]) >= 2).all(dim=1)]
        torch.testing.assert_close(moved["boxes"], expected)


def test_every_crop_is_drawn():
    image, target = example(21, 22)
    generator = torch.Generator().manual_seed(0)
    corners = {tuple(RandomCrop(20)(image, target, generator)[0][:2, 0, 0].int().tolist()) for _ in range(60)}
    assert corners == {(top, left) for top in (0, 1) for left in (0, 1, 2)}


def test_too_small():
    with pytest.raises(ValueError, match="does not fit"):
        RandomCrop(31)(*example(), torch.Generator())


class Mixed:
    classes, category_ids = ("a",), (1,)
    sizes = ((10, 50), (50, 50), (40, 60), (39, 80), (64, 64))

    def __len__(self):
        return len(self.sizes)

    def image_size(self, index):
        return self.sizes[index]

    def image_name(self, index):
        return str(index)


def test_only_images_large_enough_on_both_sides():
    subset = select_large_images(Mixed(), 40)  # type: ignore[arg-type]
    assert [subset.image_name(i) for i in range(len(subset))] == ["1", "2", "4"]
    with pytest.raises(ValueError, match="the largest has 64"):
        select_large_images(Mixed(), 65)  # type: ignore[arg-type]


def test_a_count_is_drawn_by_the_seed():
    drawn = {tuple(select_large_images(Mixed(), 40, 2, seed).image_name(i) for i in range(2)) for seed in range(12)}  # type: ignore[arg-type]
    assert drawn == {("1", "2"), ("1", "4"), ("2", "4")}


def test_the_truth_of_the_chosen_alone():
    scenes = SyntheticScenes(4, (64, 64), num_objects=(2, 3), object_sizes=(8, 16))
    subset = select_large_images(scenes, 64, 2, seed=1)
    truth, names = subset.coco(), [subset.image_name(i) for i in range(2)]
    assert [image["file_name"] for image in truth["images"]] == names
    assert len(truth["annotations"]) == sum(len(subset[i][1]["boxes"]) for i in range(2))


def test_only_large_sides_are_cropped():
    image, target = example(30, 40)
    crop, moved = RandomCropOfLargeImages(35)(image, target, torch.Generator().manual_seed(2))
    left = int(crop[1, 0, 0])
    assert crop.shape == (3, 30, 35)
    assert left in range(1, 6)
    expected = (target["boxes"] - torch.tensor([left, 0, left, 0])).clamp(min=0).minimum(torch.tensor([35, 30, 35, 30]))
    torch.testing.assert_close(moved["boxes"], expected)
    same, unchanged = RandomCropOfLargeImages(50)(image, target, torch.Generator())
    assert torch.equal(same, image)
    assert torch.equal(unchanged["boxes"], target["boxes"])
    with pytest.raises(ValueError, match="at least 1 px"):
        RandomCropOfLargeImages(0)
