"""Upgrade torchvision's Faster R-CNN, train only the added adapters, save them as a delta, and downgrade the model.

    python examples/upgrade_torchvision.py [steps]

Runs in about a minute on two CPU cores, with random weights and synthetic images. For your own detector, use ``weights="DEFAULT"``, your
images, and several thousand steps.
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
    dataset = featlift.SyntheticScenes(8, image_size=(SIZE, SIZE), seed=0)
    options = {"num_classes": 1 + len(dataset.classes), "min_size": SIZE, "max_size": SIZE}
    model = fasterrcnn_resnet50_fpn(weights=None, weights_backbone=None, box_score_thresh=0.0, **options)
    image = dataset[0][0]
    original = detect(model, image)

    print(featlift.upgrade(model, "afi", num_blocks=1), "\n")
    print("identical detections before training:", is_equal(original, detect(model, image)))

    train(model, dataset, steps)
    print("identical detections after training: ", is_equal(original, detect(model, image)))

    with tempfile.TemporaryDirectory() as folder:
        delta = Path(folder) / "afi.safetensors"
        featlift.save_delta(model, delta)
        trained = detect(model, image)
        print(
            f"size of the delta {delta.stat().st_size / 2**20:.1f} MiB, of the whole model {model_size(model):.1f} MiB"
        )

        featlift.downgrade(model)
        print("identical detections after downgrade:", is_equal(original, detect(model, image)))

        featlift.load_delta(model, delta)
        print("trained detections from the delta:   ", is_equal(trained, detect(model, image)))


def train(model: nn.Module, dataset: featlift.SyntheticScenes, steps: int) -> None:
    """Train only the added parameters. Batch norm statistics are updated here; torchvision's pretrained detectors freeze them."""
    model.requires_grad_(False)
    added = list(added_parameters(model).values())
    for parameter in added:
        parameter.requires_grad_(True)
    optimizer = torch.optim.AdamW(added, lr=1e-4)
    model.train()
    for step in range(steps):
        image, target = dataset[step % len(dataset)]
        losses = model([image], [target])
        loss = sum(losses.values(), torch.zeros(()))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        print(f"step {step + 1}: loss {loss.item():.3f}")


@torch.no_grad()
def detect(model: nn.Module, image: Tensor) -> dict[str, Tensor]:
    return model.eval()([image])[0]


def is_equal(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return all(torch.equal(a[name], b[name]) for name in a)


def model_size(model: nn.Module) -> float:
    """Return the size of the weights in MiB."""
    return sum(x.numel() * x.element_size() for x in model.state_dict().values()) / 2**20


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 6)
