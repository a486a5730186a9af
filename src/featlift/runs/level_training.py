"""Training of an extended level that was added to a detector, by distillation from unlabeled images."""

import random
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from featlift.data.augment import RandomHorizontalFlip, RandomShortestSize
from featlift.data.batches import ResumableDataLoader
from featlift.data.crops import DatasetSubset, RandomCrop
from featlift.data.dataset import ImageDataset
from featlift.data.image_folder import UnlabeledImageFolder
from featlift.data.image_io import MAX_PIXELS
from featlift.data.letterbox import RandomZoom, letterbox
from featlift.data.synthetic.scenes import SyntheticScenes
from featlift.training import Learner, OptimizerConfig, Run, fit
from featlift.training.schedules import quick_optimizer
from featlift.upgrading import enable_level, level_distillation_loss
from featlift.upgrading.extended_cost import level_cost
from featlift.upgrading.extended_detector import ExtendedDetector
from featlift.upgrading.extended_level import check_windows

POOLED_BATCH_SIZE, MAX_CROP_SIZE = 2, 512
MAX_HELD_OUT = 32


@dataclass(frozen=True)
class LevelTrainingOptions:
    """Training of an extended level.

    Attributes:
        steps: Number of training steps; 0 trains nothing.
        lr: Initial learning rate of AdamW with cosine decay; 0 is 3e-4 for p2x and 2e-3 for p3x.
        image_size: p3x: side of the square images in pixels, a multiple of 32; use that of inference.
        batch_size: p3x: images per step.
        device: Device of the training: "auto" (a GPU if available), "cpu" or "cuda".
        seed: Random seed of the order of the images and their augmentation; on the command line also of the level's initial weights.
        max_pixels: Maximum number of pixels of an image.
        min_score: p3x, not for DETRs: afterwards the level is computed only around small boxes of the detector itself with at least this
            score, such as 0.1, in a fraction of the time; 0 computes it everywhere.
    """

    steps: int = 0
    lr: float = 0.0
    image_size: int = 640
    batch_size: int = 4
    device: str = "auto"
    seed: int = 0
    max_pixels: int = MAX_PIXELS
    min_score: float = 0.0


NO_LEVEL_TRAINING = LevelTrainingOptions()


@dataclass(frozen=True)
class LevelTrainingResult:
    """Distillation losses on held-out images before and after the training; empty for p2x."""

    before: Mapping[str, float]
    after: Mapping[str, float]
    num_held_out: int

    def __str__(self) -> str:
        """One line."""
        if not self.before:
            return "no held-out images"
        names = ", ".join(f"{name} {self.before[name]:.3f} → {self.after[name]:.3f}" for name in self.before)
        total = f"{sum(self.before.values()):.3f} → {sum(self.after.values()):.3f}"
        return f"distillation loss on {self.num_held_out} held-out images: {total} ({names})"


def train_level(
    model: nn.Module,
    images: str | Path | ImageDataset,
    run: str | Path,
    options: LevelTrainingOptions | None = None,
    max_size: float | None = None,
) -> LevelTrainingResult:
    """Train the extended level of ``model`` without labels, then enable it. Other weights are unchanged.

    The teacher is the detector itself on the image at twice the size. The same run folder again resumes or only loads the training.

    Args:
        model: Detector upgraded with ``level="p2x"`` or ``"p3x"``.
        images: Folder of images (boxes are not used), "scenes", or a dataset. For p3x a twentieth of them, at least one, is held out.
        run: Run folder: log, checkpoints, ``result.json``.
        options: Steps, learning rate, size, device, seed; by default 2,000 steps.
        max_size: As in :func:`~featlift.upgrading.extended_level.enable_level`.

    Raises:
        ValueError: If ``model`` has no extended level or it cannot be computed in windows, or the images or sizes do not suit.
    """
    options = options or LevelTrainingOptions(steps=2000)
    dataset = _open_images(images, options.max_pixels)
    check_windows(model, options.min_score)
    if isinstance(model, ExtendedDetector):
        result = _train_shared_level(model, dataset, options, Path(run))
    else:
        distill_level(model, dataset, options, Path(run))
        result = LevelTrainingResult({}, {}, 0)
    enable_level(model, max_size, options.min_score)
    return result


def _open_images(images: str | Path | ImageDataset, max_pixels: int) -> ImageDataset:
    if isinstance(images, ImageDataset):
        return images
    return SyntheticScenes(200) if str(images) == "scenes" else UnlabeledImageFolder(images, max_pixels=max_pixels)


def _train_shared_level(
    model: ExtendedDetector, dataset: ImageDataset, options: LevelTrainingOptions, folder: Path
) -> LevelTrainingResult:
    size, steps, frozen = options.image_size, options.steps, model.eval()
    if size % 32 or size < 64:
        raise ValueError(f"image_size is {size}; it must be a multiple of 32, at least 64.")
    train_set, held_out = split_held_out(dataset)
    optimizer = shared_level_optimizer(options.lr or 2e-3, steps)
    settings = {"images": len(dataset), "steps": steps, "image_size": size, "batch_size": options.batch_size}
    with Run(
        folder, {**settings, "optimizer": optimizer}, seed=options.seed, device=options.device, save_every=100
    ) as run:
        run.to_device(frozen)
        learner = Learner(model.added_level, optimizer, steps)
        before = held_out_losses(model, held_out, size)

        def step(images: list[Tensor], _: Any) -> dict[str, Tensor]:
            batch = model.level_family.to_input(model, torch.stack(images))
            return learner.step(level_distillation_loss(model, batch))

        transforms = [RandomHorizontalFlip(), RandomZoom(size)]
        loader = ResumableDataLoader(train_set, options.batch_size, run.seed, transforms)
        fit(step, loader, steps, run, {"level": learner}, "level")
        learner.apply_ema().eval()
        result = LevelTrainingResult(before, held_out_losses(model, held_out, size), len(held_out))
        cost = level_cost(model, (size, size), rounds=3)
        run.write_result({"before": before, "after": result.after, "cost": cost})
        print(cost)
    return result


def shared_level_optimizer(lr: float, steps: int) -> OptimizerConfig:
    """AdamW with warm-up, cosine decay and a moving average of the weights, as in ``benchmarks/yolox_level.py``."""
    warmup = min(200, steps // 10)
    decay = 0.998 if steps >= 2000 else max(0.5, 1 - 10 / max(steps, 20))
    return OptimizerConfig(
        "adamw", lr, weight_decay=0.05, warmup_steps=warmup, schedule="cosine", max_grad_norm=5.0, ema_decay=decay
    )


def split_held_out(dataset: ImageDataset) -> tuple[DatasetSubset, DatasetSubset]:
    """Split into training images and a twentieth, 1 … 32 images, drawn with a fixed seed; a single image is in both."""
    order = random.Random(0).sample(range(len(dataset)), len(dataset))
    number = min(MAX_HELD_OUT, max(1, len(dataset) // 20))
    return DatasetSubset(dataset, order[number:] or order), DatasetSubset(dataset, order[:number])


@torch.no_grad()
def held_out_losses(model: ExtendedDetector, dataset: ImageDataset, size: int) -> dict[str, float]:
    """Mean distillation losses over the letterboxed images of ``dataset``."""
    device, sums = next(model.parameters()).device, {}
    for index in range(len(dataset)):
        image = letterbox(dataset[index][0], size)[0].to(device)
        losses = level_distillation_loss(model, model.level_family.to_input(model, image[None]))
        sums = {name: sums.get(name, 0.0) + value.item() for name, value in losses.items()}
    return {name: value / len(dataset) for name, value in sums.items()}


def distill_level(detector: nn.Module, dataset: ImageDataset, options: LevelTrainingOptions, folder: Path) -> None:
    """Distill the level p2x of ``detector`` on crops of ``dataset`` at twice the inference size; other weights are unchanged."""
    steps = options.steps
    optimizer = replace(quick_optimizer(options.lr or 3e-4), warmup_steps=min(10, steps // 10))
    model: Any = detector.eval()
    settings = {"images": len(dataset), "steps": steps, "optimizer": optimizer}
    with Run(folder, settings, seed=options.seed, device=options.device, save_every=50) as run:
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
    return ResumableDataLoader(dataset, POOLED_BATCH_SIZE, seed, transforms)


def resized_short_side(size: tuple[int, int], min_size: int, max_size: int) -> int:
    """Short side in px of an image of ``size`` (H, W) after ``RandomShortestSize(min_size, max_size)``."""
    return round(min(size) * min(min_size / min(size), max_size / max(size)))
