"""``featlift add-level``: add EFPN's extended level to a torchvision detector, distilled from unlabeled images; write a delta file."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from featlift.commands.upgrade import run_detector
from featlift.data.augment import RandomHorizontalFlip, RandomShortestSize
from featlift.data.batches import ResumableDataLoader
from featlift.data.crops import RandomCrop
from featlift.data.dataset import ImageDataset
from featlift.data.image_folder import UnlabeledImageFolder
from featlift.data.synthetic.scenes import SyntheticScenes
from featlift.detectors.by_name import load_detector_by_name
from featlift.training import Learner, Run, fit
from featlift.training.schedules import quick_optimizer
from featlift.upgrading import enable_level, level_distillation_loss, save_delta, upgrade

BATCH_SIZE, MAX_CROP_SIZE = 2, 512


def add_level(
    model: str,
    images: str = "",
    transfer: str = "ftt",
    weights: str = "none",
    steps: int = 0,
    lr: float = 3e-4,
    small_roi_size: float = 56.0,
    out: str = "extended_level.safetensors",
) -> Path:
    """Add a pyramid level of stride 2 for small objects, train it, and write a file that contains only the difference.

    The level is trained to predict, from an image, the detector's finest level of the same image at twice the size. Training needs no
    labels and changes no other weights. Without steps the command prints the added modules and checks that the outputs are bit-identical.

    Args:
        model: Faster or Mask R-CNN of torchvision with a ResNet backbone, such as "fasterrcnn_resnet50_fpn".
        images: Folder of training images of any size (boxes are not used), or "scenes".
        transfer: Module that computes the level: "ftt", "espcn", "ftt-512", … (`featlift list texture-transfers`).
        weights: Weights: "none", "DEFAULT" (downloaded) or a file.
        steps: Number of training steps of two images.
        lr: Initial learning rate of AdamW with cosine decay.
        small_roi_size: Objects with a side below this, in pixels of the resized image, are pooled from the new level.
        out: Delta file; load it with `featlift.load_delta` onto the same detector. The training log is written to ``….run``.

    Raises:
        ValueError: If the detector does not support the level, or steps are given without images.
    """
    if steps and not images:
        raise ValueError("Training needs images: give --images FOLDER or --images scenes.")
    detector = load_detector_by_name(model, weights)
    image = torch.rand(3, 256, 320, generator=torch.Generator().manual_seed(0))
    before = run_detector(detector, image)
    print(upgrade(detector, transfer, level="p2x"))
    same = all(torch.equal(x, y) for x, y in zip(before, run_detector(detector, image), strict=True))
    print(f"outputs on an image before and after: {'bit-identical' if same else 'DIFFERENT'}")
    if steps:
        dataset = SyntheticScenes(200) if images == "scenes" else UnlabeledImageFolder(images)
        distill_level(detector, dataset, steps, lr, Path(f"{out}.run"))
        enable_level(detector, small_roi_size)
        print(f"objects under {small_roi_size:g} px are now pooled from p2x")
    save_delta(detector, out)
    print(out)
    return Path(out)


def distill_level(detector: nn.Module, dataset: ImageDataset, steps: int, lr: float, folder: Path) -> None:
    """Distill the extended level of ``detector`` on crops of ``dataset`` at twice the inference size; other weights are unchanged."""
    optimizer = replace(quick_optimizer(lr), warmup_steps=min(10, steps // 10))
    model: Any = detector.eval()
    with Run(folder, {"images": len(dataset), "steps": steps, "optimizer": optimizer}, save_every=50) as run:
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
