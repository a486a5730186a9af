"""Windows as a data set of its own: the picture's red and green say where a window was, so boxes can be checked against them."""

import torch
from torchvision.transforms.v2.functional import to_pil_image
from windows import LEAST_LEFT, annotation, windows

from featlift.data.coco import open_coco_split
from featlift.training.run import write_json

BOXES = [[10.0, 12.0, 30.0, 40.0], [80.0, 50.0, 118.0, 90.0], [4.0, 70.0, 34.0, 95.0]]


def whole(folder):
    """One picture of 96 × 120 px, its red the row and its green the column of each pixel, with three objects."""
    rows, columns = torch.meshgrid(torch.arange(96), torch.arange(120), indexing="ij")
    (folder / "val").mkdir(parents=True)
    image = torch.stack([rows, columns, torch.zeros_like(rows)]).to(torch.uint8)
    to_pil_image(image).save(folder / "val" / "a.png")
    objects = [annotation(number, 1, box, number % 2 + 1) for number, box in enumerate(BOXES, 1)]
    pictures = [{"id": 1, "file_name": "a.png", "width": 120, "height": 96}]
    names = [{"id": 1, "name": "hole"}, {"id": 2, "name": "spur"}]
    write_json(folder / "instances_val.json", {"images": pictures, "annotations": objects, "categories": names})
    return folder


def test_objects_are_where_they_were(tmp_path):
    source = whole(tmp_path / "source")
    found = open_coco_split(windows(source, tmp_path / "cut", 64, {"val": 3}), "val")
    assert (len(found), found.classes) == (3, ["hole", "spur"])
    for image, target in (found[index] for index in range(3)):
        top, left = (image[:2, 0, 0] * 255).round().tolist()
        shift = torch.tensor([left, top, left, top])
        expected = (torch.tensor(BOXES) - shift).clamp(0, 64)
        seen = ((expected[:, 2:] - expected[:, :2]) >= LEAST_LEFT).all(dim=1)
        torch.testing.assert_close(target["boxes"], expected[seen])
        assert target["labels"].tolist() == [number % 2 + 1 for number in (1, 2, 3) if seen[number - 1]]
        assert seen.any()


def test_what_is_there_stays(tmp_path):
    source = whole(tmp_path / "source")
    windows(source, tmp_path / "cut", 64, {"val": 1})
    before = (tmp_path / "cut" / "instances_val.json").stat().st_mtime_ns
    assert windows(source, tmp_path / "cut", 64, {"val": 1}) == tmp_path / "cut"
    assert (tmp_path / "cut" / "instances_val.json").stat().st_mtime_ns == before
