"""Dataset of crops of the images of a COCO dataset: smaller images with objects of unchanged size."""

from pathlib import Path

import torch
from torch import Tensor
from torchvision.transforms.v2.functional import to_pil_image

from featlift.checkpoints.json_io import write_json
from featlift.data.augment import crop_sample
from featlift.data.coco import open_coco_split
from featlift.data.dataset import ImageDataset

MIN_VISIBLE_SIZE = 8.0
"""Objects with fewer pixels per side inside the crop are dropped."""


def crop_dataset(source: Path, out: Path, crop_size: int, crops_per_image: dict[str, int]) -> Path:
    """Write a COCO dataset of ``crop_size`` × ``crop_size`` px crops around objects; return ``out``.

    ``crops_per_image`` maps splits to the number of crops. Existing splits are skipped. The crops are deterministic.
    """
    for split, count in crops_per_image.items():
        if not (out / f"instances_{split}.json").exists():
            _write(open_coco_split(source, split), out, split, crop_size, count)
    return out


def _write(dataset: ImageDataset, out: Path, split: str, crop_size: int, count: int) -> None:
    generator = torch.Generator().manual_seed(0)
    (out / split).mkdir(parents=True, exist_ok=True)
    images, annotations = [], []
    for index in range(len(dataset)):
        image, target = dataset[index]
        for corner in sample_corners(target["boxes"], image.shape[-2:], crop_size, count, generator):
            crop, visible = crop_sample(image, target, (*corner, crop_size, crop_size), MIN_VISIBLE_SIZE)
            name = f"{len(images):05d}.png"
            images.append({"id": len(images) + 1, "file_name": name, "width": crop_size, "height": crop_size})
            to_pil_image(crop).save(out / split / name)
            for box, label in zip(visible["boxes"].tolist(), visible["labels"].tolist(), strict=True):
                annotations.append(make_annotation(len(annotations) + 1, images[-1]["id"], box, label))
    categories = [{"id": number, "name": name} for number, name in enumerate(dataset.classes, 1)]
    truth = {"images": images, "annotations": annotations, "categories": categories}
    write_json(out / f"instances_{split}.json", truth)


def sample_corners(
    boxes: Tensor, size: tuple[int, int] | torch.Size, crop_size: int, count: int, generator: torch.Generator
) -> list[tuple[int, int]]:
    """Sample the upper left corners (top, left) of ``count`` crops inside an image of ``size`` (H, W).

    Each crop contains the center of one of ``boxes [N, 4]`` (xyxy) at a random position.
    """
    selected = torch.randperm(len(boxes), generator=generator)[:count]
    corners = []
    for left, top, right, bottom in boxes[selected].tolist():
        shift = torch.rand(2, generator=generator).tolist()
        y = (top + bottom) / 2 - crop_size * (0.1 + 0.8 * shift[0])
        x = (left + right) / 2 - crop_size * (0.1 + 0.8 * shift[1])
        corners.append((int(min(max(y, 0), size[0] - crop_size)), int(min(max(x, 0), size[1] - crop_size))))
    return corners


def make_annotation(annotation_id: int, image_id: int, box: list[float], label: int) -> dict:
    """Return the COCO annotation of an object with ``box`` xyxy."""
    left, top, right, bottom = box
    width, height = right - left, bottom - top
    shape = {"bbox": [left, top, width, height], "area": width * height}
    return {"id": annotation_id, "image_id": image_id, "category_id": label, "iscrowd": 0, **shape}
