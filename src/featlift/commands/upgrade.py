"""``featlift upgrade``: put a learned interpolator into a torchvision detector, fine-tune it, write a delta file."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from featlift.data.config import build_dataset, build_train_loader, count_classes, quick_data_config
from featlift.deployment.latency_budget import UNLIMITED_BUDGET, LatencyBudget, select_within_budget
from featlift.detectors.by_name import load_detector_by_name
from featlift.resolution import freeze
from featlift.training import Learner, Run, fit
from featlift.training.schedules import quick_optimizer
from featlift.upgrading import added_parameters, load_delta, save_delta, upgrade


@dataclass(frozen=True)
class FineTuneOptions:
    """Training of the added modules.

    Attributes:
        steps: Number of training steps of two images; 0 trains nothing.
        lr: Initial learning rate of AdamW with cosine decay.
        train_all: Train the whole detector instead of the added modules only.
    """

    steps: int = 0
    lr: float = 1e-3
    train_all: bool = False


def upgrade_detector(
    model: str,
    interpolator: str = "afi",
    weights: str = "none",
    data: str = "",
    fine_tuning: FineTuneOptions = FineTuneOptions(),
    latency_budget: LatencyBudget = UNLIMITED_BUDGET,
    out: str = "upgrade.safetensors",
) -> Path:
    """Upgrade a detector in place, train the added modules, and write a file that contains only the difference.

    Without steps the command prints the added modules and checks that the outputs are bit-identical.

    Args:
        model: Name of a torchvision detector, such as "fasterrcnn_resnet50_fpn", or a run folder.
        interpolator: Name of the interpolator; see `featlift list interpolators`.
        weights: Weights of a torchvision detector: "none", "DEFAULT" (downloaded) or a file.
        data: COCO folder to train on, or "scenes".
        fine_tuning: Training of the added modules.
        latency_budget: Latency limit by which the interpolator is chosen.
        out: Delta file; load it with `featlift.load_delta` onto the same detector. The training log is written to ``….run``.

    Raises:
        ValueError: If a name is unknown, or no interpolator meets the budget.
    """
    detector = load_detector_by_name(model, weights, count_classes(data))
    if latency_budget.max_latency_ms:
        interpolator = select_within_budget(detector, latency_budget)
    image = torch.rand(3, 256, 320, generator=torch.Generator().manual_seed(0))
    before = run_detector(detector, image)
    print(upgrade(detector, interpolator))
    same = all(torch.equal(x, y) for x, y in zip(before, run_detector(detector, image), strict=True))
    print(f"outputs on an image before and after: {'bit-identical' if same else 'DIFFERENT'}")
    if fine_tuning.steps:
        _fine_tune(detector, data or "scenes", fine_tuning, Path(f"{out}.run"))
    save_delta(detector, out)
    print(out)
    return Path(out)


def load_upgraded_detector(model: str, delta: str, weights: str = "none") -> nn.Module:
    """Load the detector ``model`` and apply a delta file of :func:`upgrade_detector`."""
    detector = load_detector_by_name(model, weights)
    load_delta(detector, delta)
    return detector


@torch.inference_mode()
def run_detector(detector: nn.Module, image: torch.Tensor) -> list[torch.Tensor]:
    """Output tensors of ``detector`` on ``image [3, H, W]``: boxes, labels, scores, …"""
    return list(detector.eval()([image])[0].values())


def _fine_tune(detector: nn.Module, data: str, options: FineTuneOptions, folder: Path) -> None:
    if not options.train_all:
        _freeze_all_but_added(detector)
    config = replace(quick_data_config(), root=data, batch_size=2)
    optimizer = replace(quick_optimizer(options.lr), warmup_steps=min(10, options.steps // 10))
    settings = {"data": config, "steps": options.steps, "optimizer": optimizer, "train_all": options.train_all}
    with Run(folder, settings) as run:
        learner = Learner(detector, optimizer, options.steps)
        loader = build_train_loader(config, build_dataset(config), run.seed)
        fit(
            lambda images, targets: learner.step(detector(images, targets)),
            loader,
            options.steps,
            run,
            {"detector": learner},
        )


def _freeze_all_but_added(detector: nn.Module) -> None:
    """Freeze all parameters except the added ones, and all batch-norm statistics except those of added layers."""
    added = set(map(id, added_parameters(detector).values()))
    for parameter in detector.parameters():
        parameter.requires_grad_(id(parameter) in added)
    for module in detector.modules():
        if isinstance(module, nn.BatchNorm2d) and id(module.weight) not in added:
            freeze(module)
