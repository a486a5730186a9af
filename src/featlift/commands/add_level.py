"""``featlift finer``: EFPN's finer level in a torchvision detector, taught by a folder of pictures without labels, as a delta file."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from featlift.commands.upgrade import load_detector_by_name, run_detector
from featlift.data.augment import RandomHorizontalFlip, RandomShortestSize
from featlift.data.batches import ResumableDataLoader
from featlift.data.crops import RandomCrop
from featlift.data.dataset import ImageDataset
from featlift.data.image_folder import UnlabeledImageFolder
from featlift.data.synthetic.scenes import SyntheticScenes
from featlift.papers import baseline
from featlift.training import Learner, Run, fit
from featlift.upgrading import enable_level, level_distillation_loss, save_delta
from featlift.upgrading import upgrade as upgraded

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
    """Add a pyramid level of stride 2 for small objects, teach it, and write a file that holds only the difference.

    It learns to be, from a picture, what the detector's own finest level is of the picture at twice the size. No labels are needed, and
    nothing else of the detector changes. Without steps it prints what would be added and checks that outputs are the same to the last bit.

    Args:
        model: a Faster or Mask R-CNN of torchvision on a ResNet ("fasterrcnn_resnet50_fpn").
        images: the folder to learn from (pictures of any size, boxes are not used), or "scenes".
        transfer: what makes the level: "ftt", "espcn", "authors", … (`featlift list transfers`).
        weights: "none", "DEFAULT" (downloads them) or a file.
        steps: how many steps of two pictures to train.
        lr: of AdamW, a cosine.
        small_roi_size: objects below this side in px of the picture as the detector sees it are read from the new level.
        out: the delta file; `featlift.load_delta` puts it onto the same detector again. The training's log is beside it (``….run``).

    Raises:
        ValueError: for a detector that cannot have the level, or steps without pictures.
    """
    if steps and not images:
        raise ValueError("There is nothing to learn from: give --pictures FOLDER, or --pictures scenes.")
    detector = load_detector_by_name(model, weights)
    picture = torch.rand(3, 256, 320, generator=torch.Generator().manual_seed(0))
    before = run_detector(detector, picture)
    print(upgraded(detector, transfer, level="p2x"))
    same = all(torch.equal(x, y) for x, y in zip(before, run_detector(detector, picture), strict=True))
    print(f"outputs on a picture before and after: {'the same to the last bit' if same else 'DIFFERENT'}")
    if steps:
        shown = SyntheticScenes(200) if images == "scenes" else UnlabeledImageFolder(images)
        distill_level(detector, shown, steps, lr, Path(f"{out}.run"))
        enable_level(detector, small_roi_size)
        print(f"objects under {small_roi_size:g} px are now read from p2x")
    save_delta(detector, out)
    print(out)
    return Path(out)


def distill_level(detector: nn.Module, dataset: ImageDataset, steps: int, lr: float, folder: Path) -> None:
    """Distil the finer level of ``detector`` on squares of ``dataset`` at twice the size that it will see; nothing else moves."""
    descent = replace(baseline.quick_optimizer(lr), warmup_steps=min(10, steps // 10))
    model: Any = detector.eval()
    with Run(folder, {"pictures": len(dataset), "steps": steps, "descent": descent}, save_every=50) as run:
        learner = Learner(model.backbone.added, descent, steps)
        run.to_device(model)

        def step(images: list[Tensor], _: Any) -> dict[str, Tensor]:
            batch = torch.stack([model.transform.normalize(image) for image in images])
            return learner.step(level_distillation_loss(model, batch))

        fit(step, build_crop_batches(detector, dataset, run.seed), steps, run, {"level": learner}, "level")


def build_crop_batches(detector: nn.Module, dataset: ImageDataset, seed: int) -> ResumableDataLoader:
    """Random squares, sides multiples of 64 and at most 512 px, of pictures at twice the size that ``detector`` will see."""
    transform: Any = detector.transform
    short, longest = 2 * transform.min_size[-1], 2 * transform.max_size
    smallest = min(resized_short_side(dataset.image_size(index), short, longest) for index in range(len(dataset)))
    side = min(MAX_CROP_SIZE, smallest - smallest % 64)
    return ResumableDataLoader(
        dataset, BATCH_SIZE, seed, [RandomHorizontalFlip(), RandomShortestSize(short, longest), RandomCrop(side)]
    )


def resized_short_side(size: tuple[int, int], min_size: int, max_size: int) -> int:
    """The short side in px of a picture of ``size`` (H, W) after ``Resize(short, longest)``."""
    return round(min(size) * min(min_size / min(size), max_size / max(size)))
