"""Ignored regions are hidden from training, and objects in them are not."""

import json

import torch
from PIL import Image

from featlift.data.batches import ResumableDataLoader
from featlift.data.coco import CocoDataset
from featlift.data.ignored_regions import hide_ignored_regions


def test_only_ignored_pixels_without_an_object_are_hidden():
    image = torch.arange(3 * 6 * 8).view(3, 6, 8).float() / 144
    target = {
        "boxes": torch.tensor([[1.2, 1, 4, 5], [3, 0, 6, 2], [6, 4, 8, 6]]),
        "iscrowd": torch.tensor([1, 0, 1]),
        "ignore": torch.tensor([1, 0, 0]),
    }
    hidden, rest = hide_ignored_regions(image, target)
    for y in range(6):
        for x in range(8):
            is_hidden = 1 <= x < 4 and 1 <= y < 5 and not (3 <= x < 6 and y < 2)
            expected = image.mean(dim=(1, 2)) if is_hidden else image[:, y, x]
            torch.testing.assert_close(hidden[:, y, x], expected)
    assert "ignore" not in rest


def test_the_loader_hides_what_a_coco_file_ignores(tmp_path):
    image = Image.new("RGB", (20, 10), (0, 0, 0))
    image.paste((255, 255, 255), (2, 2, 6, 6))
    image.paste((255, 0, 0), (12, 2, 16, 6))
    image.save(tmp_path / "a.png")
    boxes = {"ignored": [2, 2, 4, 4], "object": [12, 2, 4, 4]}
    document = {
        "images": [{"id": 1, "file_name": "a.png", "width": 20, "height": 10}],
        "categories": [{"id": 1, "name": "a"}],
        "annotations": [
            {"id": k, "image_id": 1, "category_id": 1, "bbox": box, "ignore": int(name == "ignored")}
            for k, (name, box) in enumerate(boxes.items())
        ],
    }
    (tmp_path / "a.json").write_text(json.dumps(document))
    dataset = CocoDataset(tmp_path / "a.json", tmp_path)
    (shown,), (target,) = next(ResumableDataLoader(dataset, 1, augmentations=[]).iter_from(0))
    assert dataset[0][0][:, 3, 3].tolist() == [1, 1, 1]
    assert shown[:, 3, 3].tolist() == shown[:, 0, 0].tolist() or shown[:, 3, 3].max() < 0.3
    assert shown[:, 3, 13].tolist() == [1, 0, 0]
    assert target["boxes"].tolist() == [[12, 2, 16, 6]]
    assert target["labels"].tolist() == [1]
