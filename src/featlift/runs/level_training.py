"""Training of an extended level that was added to a detector, by distillation from unlabeled images."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from featlift.data.augment import RandomHorizontalFlip, RandomShortestSize
from featlift.data.batches import ResumableDataLoader
from featlift.data.crops import RandomCrop
from featlift.data.dataset import ImageDataset
from featlift.training import Learner, Run, fit
from featlift.training.schedules import quick_optimizer
from featlift.upgrading import level_distillation_loss

BATCH_SIZE, MAX_CROP_SIZE = 2, 512


@dataclass(frozen=True)
class LevelTrainingOptions:
    """Training of an extended level.

    Attributes:
        steps: Number of training steps of two images; 0 trains nothing.
        lr: Initial learning rate of AdamW with cosine decay.
        device: Device of the training: "auto" (a GPU if available), "cpu" or "cuda".
    """

    steps: int = 0
    lr: float = 3e-4
    device: str = "auto"


NO_LEVEL_TRAINING = LevelTrainingOptions()


def distill_level(detector: nn.Module, dataset: ImageDataset, options: LevelTrainingOptions, folder: Path) -> None:
    """Distill the extended level of ``detector`` on crops of ``dataset`` at twice the inference size; other weights are unchanged."""
    steps, optimizer = options.steps, replace(quick_optimizer(options.lr), warmup_steps=min(10, options.steps // 10))
    model: Any = detector.eval()
    settings = {"images": len(dataset), "steps": steps, "optimizer": optimizer}
    with Run(folder, settings, device=options.device, save_every=50) as run:
        learner = Learner(model.backbone.added, optimizer, steps)
        run.to_device(model)

        def step(images: list[Tensor], _: Any) -> dict[str, Tensor]:
            batch = torch.stack([model.transform.normalize(image) for image in images])
            return learner.step(level_distillation_loss(model, batch))

        fit(step, build_crop_batches(detector, dataset, run.seed), steps, run, {"level": learner}, "level")


def build_crop_batches(detector: nn.Module, dataset: ImageDataset, seed: int) -> ResumableDataLoader:
    """Loader of random square crops, sides multiples of 64 and at most 512 px, of images at twice the inference size of ``detector``."""
    transform: Any = detector.transform
    min_size, max_size = 2 * transform.min_size[-1], 2 * transform.max_size
    shortest = min(resized_short_side(dataset.image_size(index), min_size, max_size) for index in range(len(dataset)))
    crop_size = min(MAX_CROP_SIZE, shortest - shortest % 64)
    transforms = [RandomHorizontalFlip(), RandomShortestSize(min_size, max_size), RandomCrop(crop_size)]
    return ResumableDataLoader(dataset, BATCH_SIZE, seed, transforms)


def resized_short_side(size: tuple[int, int], min_size: int, max_size: int) -> int:
    """Short side in px of an image of ``size`` (H, W) after ``RandomShortestSize(min_size, max_size)``."""
    return round(min(size) * min(min_size / min(size), max_size / max(size)))
