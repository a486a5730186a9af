"""Upgrade torchvision's Faster R-CNN, train only what was added, save it, and take it out again.

    python examples/upgrade_torchvision.py [steps]

Runs in about a minute on two CPU cores, with random weights and painted pictures. For your own detector, take ``weights="DEFAULT"``, your
pictures, and some thousand steps.
"""

import sys
import tempfile
from pathlib import Path

import torch
from torch import Tensor, nn
from torchvision.models.detection import fasterrcnn_resnet50_fpn

import featlift
from featlift.upgrading import added_parameters

SIZE = 192


def main(steps: int) -> None:
    torch.manual_seed(0)
    scenes = featlift.SyntheticScenes(8, image_size=(SIZE, SIZE), seed=0)
    sizes = {"num_classes": 1 + len(scenes.classes), "min_size": SIZE, "max_size": SIZE}
    model = fasterrcnn_resnet50_fpn(weights=None, weights_backbone=None, box_score_thresh=0.0, **sizes)
    image = scenes[0][0]
    before = detections(model, image)

    print(featlift.upgrade(model, "afi", blocks=1), "\n")
    print("the same detections before training:", same(before, detections(model, image)))

    train(model, scenes, steps)
    print("the same detections after training: ", same(before, detections(model, image)))

    with tempfile.TemporaryDirectory() as folder:
        delta = Path(folder) / "afi.safetensors"
        featlift.save_delta(model, delta)
        trained = detections(model, image)
        print(f"the delta is {delta.stat().st_size / 2**20:.1f} MiB, the whole model {weight(model):.1f} MiB")

        featlift.downgrade(model)
        print("the same detections as at first:    ", same(before, detections(model, image)))

        featlift.load_delta(model, delta)
        print("the delta brings the training back: ", same(trained, detections(model, image)))


def train(model: nn.Module, scenes: featlift.SyntheticScenes, steps: int) -> None:
    """Only the new parameters learn. (Batch norm goes on counting here; in torchvision's pretrained detectors it is frozen.)"""
    model.requires_grad_(False)
    added = list(added_parameters(model).values())
    for parameter in added:
        parameter.requires_grad_(True)
    optimizer = torch.optim.AdamW(added, lr=1e-4)
    model.train()
    for step in range(steps):
        image, target = scenes[step % len(scenes)]
        losses = model([image], [target])
        loss = sum(losses.values(), torch.zeros(()))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        print(f"step {step + 1}: loss {loss.item():.3f}")


@torch.no_grad()
def detections(model: nn.Module, image: Tensor) -> dict[str, Tensor]:
    return model.eval()([image])[0]


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return all(torch.equal(a[name], b[name]) for name in a)


def weight(model: nn.Module) -> float:
    return sum(x.numel() * x.element_size() for x in model.state_dict().values()) / 2**20


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 6)
