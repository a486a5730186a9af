"""How small a sign of the built-in scenes can be read: ``python benchmarks/readability.py`` → ``benchmarks/results/readability.json``.

A small network names signs cut out by their true boxes, from pictures at full size and from the same pictures at half the size. What it
names at full size and not at half was lost to resolution alone.
"""

import torch
import torch.nn.functional as nnf
from run import SEED, keep, made
from torch import Tensor, nn

from featlift.data.synthetic.scenes import SIGN_CLASSES, SyntheticScenes

SIDE, AROUND, EPOCHS, BATCH = 24, 1.15, 9, 64
BINS = ((5, 8), (8, 13), (13, 60))


def signs(scenes: SyntheticScenes, half: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Every sign of ``scenes``, enlarged to ``[N, 3, 24, 24]``; its class ``[N]`` from 0; its longer side at full size ``[N]``, px."""
    cut, labels, sides = [], [], []
    for image, target in (scenes[i] for i in range(len(scenes))):
        boxes = target["boxes"]
        seen = nnf.avg_pool2d(image, 2) if half else image
        cut.append(_cut(seen, boxes / 2 if half else boxes))
        labels.append(target["labels"] - 1)
        sides.append((boxes[:, 2:] - boxes[:, :2]).amax(dim=1))
    return torch.cat(cut), torch.cat(labels), torch.cat(sides)


def _cut(image: Tensor, boxes: Tensor) -> Tensor:
    """Square windows around ``boxes`` xyxy px of ``image [3, H, W]``: ``[N, 3, 24, 24]``."""
    height, width = image.shape[1:]
    center, reach = (boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]).amax(dim=1) * AROUND
    steps = (torch.arange(SIDE) + 0.5) / SIDE - 0.5
    x = (center[:, :1] + reach[:, None] * steps) / width * 2 - 1
    y = (center[:, 1:] + reach[:, None] * steps) / height * 2 - 1
    grid = torch.stack([x[:, None].expand(-1, SIDE, -1), y[:, :, None].expand(-1, -1, SIDE)], dim=-1)
    return nnf.grid_sample(image.expand(len(boxes), -1, -1, -1), grid, padding_mode="border", align_corners=False)


def reader() -> nn.Module:
    """Three convolutions and a linear layer."""
    layers: list[nn.Module] = []
    for i, (channels, width) in enumerate([(3, 24), (24, 32), (32, 64)]):
        layers += [nn.Conv2d(channels, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
        layers += [nn.MaxPool2d(2)] if i else []
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(64 * (SIDE // 4) ** 2, len(SIGN_CLASSES)))


def taught(pictures: Tensor, labels: Tensor) -> nn.Module:
    """A :func:`reader` after nine epochs of AdamW."""
    torch.manual_seed(SEED)
    network = reader()
    optimizer = torch.optim.AdamW(network.parameters(), 2e-3, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, EPOCHS * (len(pictures) // BATCH))
    for _ in range(EPOCHS):
        for chosen in torch.randperm(len(pictures)).split(BATCH)[: len(pictures) // BATCH]:
            loss = nnf.cross_entropy(network(pictures[chosen]), labels[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return network.eval()


@torch.inference_mode()
def accuracy(network: nn.Module, pictures: Tensor, labels: Tensor) -> Tensor:
    """1 for every sign that is named rightly, ``[N]``."""
    return (torch.cat([network(part).argmax(dim=1) for part in pictures.split(256)]) == labels).float()


def readability() -> list[dict]:
    """One row for each range of sides: per cent read at full size and at half, and of how many signs."""
    rows: list[dict] = [{"side of the sign, px": f"{low} to {high}"} for low, high in BINS]
    for name, half in (("full size", False), ("half size", True)):
        network = taught(*signs(SyntheticScenes(500), half)[:2])
        pictures, labels, sides = signs(SyntheticScenes(150, first_index=9000), half)
        right = accuracy(network, pictures, labels)
        for row, (low, high) in zip(rows, BINS, strict=True):
            there = (sides >= low) & (sides < high)
            row |= {"signs": int(there.sum()), name: round(100 * right[there].mean().item(), 1)}
    return rows


if __name__ == "__main__":
    metadata = made(torch.device("cpu"), "python benchmarks/readability.py")
    caption = f"signs of the built-in scenes named from their true boxes, per cent of {len(SIGN_CLASSES)} classes"
    print(keep("readability", [{"caption": caption, "rows": readability()}], metadata))
