"""Windows of a data set's pictures as a data set of its own: smaller pictures, objects as large as they were."""

from pathlib import Path

import torch
from torch import Tensor
from torchvision.transforms.v2.functional import to_pil_image

from featlift.data.augment import crop_sample
from featlift.data.coco import open_coco_split
from featlift.data.dataset import ImageDataset
from featlift.training.run import write_json

LEAST_LEFT = 8.0
"""An object of which less than so many pixels a side are in the window does not count."""


def windows(source: Path, out: Path, side: int, each: dict[str, int]) -> Path:
    """``each`` split's pictures as so many windows of ``side`` × ``side`` px, around objects, in COCO's form; returns ``out``.

    A folder that is complete is left as it is. Which windows follows from the pictures alone.
    """
    for split, count in each.items():
        if not (out / f"instances_{split}.json").exists():
            _write(open_coco_split(source, split), out, split, side, count)
    return out


def _write(shown: ImageDataset, out: Path, split: str, side: int, count: int) -> None:
    draw = torch.Generator().manual_seed(0)
    (out / split).mkdir(parents=True, exist_ok=True)
    images, annotations = [], []
    for index in range(len(shown)):
        image, target = shown[index]
        for corner in corners(target["boxes"], image.shape[-2:], side, count, draw):
            part, seen = crop_sample(image, target, (*corner, side, side), LEAST_LEFT)
            images.append({"id": len(images) + 1, "file_name": f"{len(images):05d}.png", "width": side, "height": side})
            to_pil_image(part).save(out / split / images[-1]["file_name"])
            for box, label in zip(seen["boxes"].tolist(), seen["labels"].tolist(), strict=True):
                annotations.append(annotation(len(annotations) + 1, images[-1]["id"], box, label))
    categories = [{"id": number, "name": name} for number, name in enumerate(shown.classes, 1)]
    truth = {"images": images, "annotations": annotations, "categories": categories}
    write_json(out / f"instances_{split}.json", truth)


def corners(
    boxes: Tensor, size: tuple[int, int] | torch.Size, side: int, count: int, draw: torch.Generator
) -> list[tuple[int, int]]:
    """Upper left corners (top, left) of ``count`` windows inside a picture of ``size`` (H, W), each with the middle of one of ``boxes
    [N, 4]`` in it, at a random place.
    """
    chosen = torch.randperm(len(boxes), generator=draw)[:count]
    found = []
    for left, top, right, bottom in boxes[chosen].tolist():
        shift = torch.rand(2, generator=draw).tolist()
        y = (top + bottom) / 2 - side * (0.1 + 0.8 * shift[0])
        x = (left + right) / 2 - side * (0.1 + 0.8 * shift[1])
        found.append((int(min(max(y, 0), size[0] - side)), int(min(max(x, 0), size[1] - side))))
    return found


def annotation(number: int, picture: int, box: list[float], label: int) -> dict:
    """COCO's form of one object; ``box`` is xyxy."""
    left, top, right, bottom = box
    wide, high = right - left, bottom - top
    shape = {"bbox": [left, top, wide, high], "area": wide * high}
    return {"id": number, "image_id": picture, "category_id": label, "iscrowd": 0, **shape}
