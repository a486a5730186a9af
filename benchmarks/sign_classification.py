"""Classification of small signs in the synthetic scenes: ``python benchmarks/sign_classification.py``.

A small network classifies crops of the true boxes, from images at full size and at half size. The difference in accuracy is the
information lost by the lower resolution. Result: ``benchmarks/results/readability.json``.
"""

import torch
import torch.nn.functional as nnf
from run import SEED, collect_metadata, write_result
from torch import Tensor, nn

from featlift.data.synthetic.scenes import SIGN_CLASSES, SyntheticScenes

CROP_SIZE, CONTEXT, EPOCHS, BATCH_SIZE = 24, 1.15, 9, 64
BINS = ((5, 8), (8, 13), (13, 60))


def sign_crops(scenes: SyntheticScenes, half_size: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Return crops ``[N, 3, 24, 24]`` of all signs, their classes ``[N]`` from 0, and their longer sides ``[N]`` in pixels at full size."""
    crops, labels, sides = [], [], []
    for image, target in (scenes[i] for i in range(len(scenes))):
        boxes = target["boxes"]
        scaled = nnf.avg_pool2d(image, 2) if half_size else image
        crops.append(_crop(scaled, boxes / 2 if half_size else boxes))
        labels.append(target["labels"] - 1)
        sides.append((boxes[:, 2:] - boxes[:, :2]).amax(dim=1))
    return torch.cat(crops), torch.cat(labels), torch.cat(sides)


def _crop(image: Tensor, boxes: Tensor) -> Tensor:
    """Return square crops ``[N, 3, 24, 24]`` around ``boxes`` (xyxy, pixels) of ``image [3, H, W]``."""
    height, width = image.shape[1:]
    center, size = (boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]).amax(dim=1) * CONTEXT
    steps = (torch.arange(CROP_SIZE) + 0.5) / CROP_SIZE - 0.5
    x = (center[:, :1] + size[:, None] * steps) / width * 2 - 1
    y = (center[:, 1:] + size[:, None] * steps) / height * 2 - 1
    grid = torch.stack([x[:, None].expand(-1, CROP_SIZE, -1), y[:, :, None].expand(-1, -1, CROP_SIZE)], dim=-1)
    return nnf.grid_sample(image.expand(len(boxes), -1, -1, -1), grid, padding_mode="border", align_corners=False)


def build_classifier() -> nn.Module:
    """Build a network of three convolutions and a linear layer."""
    layers: list[nn.Module] = []
    for i, (channels, width) in enumerate([(3, 24), (24, 32), (32, 64)]):
        layers += [nn.Conv2d(channels, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
        layers += [nn.MaxPool2d(2)] if i else []
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(64 * (CROP_SIZE // 4) ** 2, len(SIGN_CLASSES)))


def train_classifier(images: Tensor, labels: Tensor) -> nn.Module:
    """Train a :func:`build_classifier` network for nine epochs with AdamW."""
    torch.manual_seed(SEED)
    network = build_classifier()
    optimizer = torch.optim.AdamW(network.parameters(), 2e-3, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, EPOCHS * (len(images) // BATCH_SIZE))
    for _ in range(EPOCHS):
        for indices in torch.randperm(len(images)).split(BATCH_SIZE)[: len(images) // BATCH_SIZE]:
            loss = nnf.cross_entropy(network(images[indices]), labels[indices])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return network.eval()


@torch.inference_mode()
def accuracy(network: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """Return 1 for every correctly classified sign and 0 otherwise, ``[N]``."""
    return (torch.cat([network(batch).argmax(dim=1) for batch in images.split(256)]) == labels).float()


def readability() -> list[dict]:
    """Return one row per range of sides: number of signs, and accuracy in percent at full size and at half size."""
    rows: list[dict] = [{"side of the sign, px": f"{low} to {high}"} for low, high in BINS]
    for name, half_size in (("full size", False), ("half size", True)):
        network = train_classifier(*sign_crops(SyntheticScenes(500), half_size)[:2])
        images, labels, sides = sign_crops(SyntheticScenes(150, first_index=9000), half_size)
        correct = accuracy(network, images, labels)
        for row, (low, high) in zip(rows, BINS, strict=True):
            in_range = (sides >= low) & (sides < high)
            row |= {"signs": int(in_range.sum()), name: round(100 * correct[in_range].mean().item(), 1)}
    return rows


if __name__ == "__main__":
    metadata = collect_metadata(torch.device("cpu"), "python benchmarks/sign_classification.py")
    caption = (
        f"accuracy in percent on crops of the true boxes, signs of the synthetic scenes, {len(SIGN_CLASSES)} classes"
    )
    print(write_result("readability", [{"caption": caption, "rows": readability()}], metadata))
