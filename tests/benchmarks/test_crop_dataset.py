"""Dataset of crops: red and green of the image encode the position of a crop, against which the boxes are checked."""

import torch
from crop_dataset import MIN_VISIBLE_SIZE, crop_dataset, make_annotation
from torchvision.transforms.v2.functional import to_pil_image

from featlift.checkpoints.json_io import write_json
from featlift.data.coco import open_coco_split

BOXES = [[10.0, 12.0, 30.0, 40.0], [80.0, 50.0, 118.0, 90.0], [4.0, 70.0, 34.0, 95.0]]


def write_dataset(folder):
    """One image of 96 × 120 px, its red the row and its green the column of each pixel, with three objects."""
    rows, columns = torch.meshgrid(torch.arange(96), torch.arange(120), indexing="ij")
    (folder / "val").mkdir(parents=True)
    image = torch.stack([rows, columns, torch.zeros_like(rows)]).to(torch.uint8)
    to_pil_image(image).save(folder / "val" / "a.png")
    objects = [make_annotation(number, 1, box, number % 2 + 1) for number, box in enumerate(BOXES, 1)]
    images = [{"id": 1, "file_name": "a.png", "width": 120, "height": 96}]
    names = [{"id": 1, "name": "hole"}, {"id": 2, "name": "spur"}]
    write_json(folder / "instances_val.json", {"images": images, "annotations": objects, "categories": names})
    return folder


def test_boxes_follow_the_crop(tmp_path):
    source = write_dataset(tmp_path / "source")
    dataset = open_coco_split(crop_dataset(source, tmp_path / "crops", 64, {"val": 3}), "val")
    assert (len(dataset), dataset.classes) == (3, ["hole", "spur"])
    for image, target in (dataset[index] for index in range(3)):
        top, left = (image[:2, 0, 0] * 255).round().tolist()
        shift = torch.tensor([left, top, left, top])
        expected = (torch.tensor(BOXES) - shift).clamp(0, 64)
        visible = ((expected[:, 2:] - expected[:, :2]) >= MIN_VISIBLE_SIZE).all(dim=1)
        torch.testing.assert_close(target["boxes"], expected[visible])
        assert target["labels"].tolist() == [number % 2 + 1 for number in (1, 2, 3) if visible[number - 1]]
        assert visible.any()


def test_existing_splits_are_skipped(tmp_path):
    source = write_dataset(tmp_path / "source")
    crop_dataset(source, tmp_path / "crops", 64, {"val": 1})
    before = (tmp_path / "crops" / "instances_val.json").stat().st_mtime_ns
    assert crop_dataset(source, tmp_path / "crops", 64, {"val": 1}) == tmp_path / "crops"
    assert (tmp_path / "crops" / "instances_val.json").stat().st_mtime_ns == before
