"""``featlift upgrade``: a learned interpolator in a torchvision detector, trained a little, as a delta file."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from featlift.deployment.latency_budget import UNLIMITED_BUDGET, LatencyBudget, select_within_budget
from featlift.papers import baseline
from featlift.resolution import freeze
from featlift.training import Learner, Run, fit
from featlift.upgrading import added_parameters, load_delta, save_delta
from featlift.upgrading import upgrade as upgraded


@dataclass(frozen=True)
class FineTuneOptions:
    """How what was added is trained.

    Attributes:
        steps: of two pictures.
        lr: of AdamW, a cosine.
        train_all: train the whole detector and not only what was added.
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
    """Upgrade a detector in place, train what was added, and write a file that holds only the difference.

    Without steps it prints what would be added and checks that the outputs are the same to the last bit.

    Args:
        model: a detector of torchvision ("fasterrcnn_resnet50_fpn"), or a run folder of ours.
        interpolator: see `featlift list interpolators`.
        weights: for torchvision: "none", "DEFAULT" (downloads them) or a file.
        data: COCO folder to train on, or "scenes".
        fine_tuning: steps, rate, and what is trained.
        latency_budget: choose the interpolator by what it costs.
        out: the delta file; `featlift.load_delta` puts it onto the same detector again. The training's log is beside it (``….run``).

    Raises:
        ValueError: for unknown names, or if no interpolator keeps to the budget.
    """
    detector = load_detector_by_name(model, weights, data)
    if latency_budget.max_latency_ms:
        interpolator = select_within_budget(detector, latency_budget)
    picture = torch.rand(3, 256, 320, generator=torch.Generator().manual_seed(0))
    before = run_detector(detector, picture)
    print(upgraded(detector, interpolator))
    same = all(torch.equal(x, y) for x, y in zip(before, run_detector(detector, picture), strict=True))
    print(f"outputs on a picture before and after: {'the same to the last bit' if same else 'DIFFERENT'}")
    if fine_tuning.steps:
        _fine_tune(detector, data or "scenes", fine_tuning, Path(f"{out}.run"))
    save_delta(detector, out)
    print(out)
    return Path(out)


def load_upgraded_detector(model: str, delta: str, weights: str = "none") -> nn.Module:
    """The detector called ``model`` with a delta file of :func:`upgrade_detector` put onto it."""
    detector = load_detector_by_name(model, weights)
    load_delta(detector, delta)
    return detector


def load_detector_by_name(model: str, weights: str = "none", data: str = "") -> nn.Module:
    """torchvision's detector called ``model``, built for the classes of ``data`` unless it brings weights, or that of a run folder."""
    if Path(model).exists():
        return baseline.load_detector(model)[0]
    from torchvision.models import get_model

    if model not in _list_torchvision_detectors():
        raise ValueError(
            f"'{model}' is neither a run folder nor a detector of torchvision ({', '.join(_list_torchvision_detectors())})."
        )
    if weights == "DEFAULT":
        return get_model(model, weights="DEFAULT")
    count = len(baseline.build_dataset(baseline.DataConfig(root=data)).classes) if data else 90
    detector = get_model(model, weights=None, weights_backbone=None, num_classes=count + 1)
    if weights != "none":
        from featlift.checkpoints import load_state_file

        print(load_state_file(detector, weights))
    return detector


def _list_torchvision_detectors() -> list[str]:
    from torchvision.models import detection, list_models

    return list_models(module=detection)


@torch.inference_mode()
def run_detector(detector: nn.Module, image: torch.Tensor) -> list[torch.Tensor]:
    """What ``detector`` finds in ``image [3, H, W]``: boxes, labels, scores, …"""
    return list(detector.eval()([image])[0].values())


def _fine_tune(detector: nn.Module, data: str, options: FineTuneOptions, folder: Path) -> None:
    if not options.train_all:
        _freeze_all_but_added(detector)
    shown = replace(baseline.quick_data_config(), root=data, batch_size=2)
    descent = replace(baseline.quick_optimizer(options.lr), warmup_steps=min(10, options.steps // 10))
    settings = {"data": shown, "steps": options.steps, "descent": descent, "everything": options.train_all}
    with Run(folder, settings) as run:
        learner = Learner(detector, descent, options.steps)
        stream = baseline.build_train_loader(shown, baseline.build_dataset(shown), run.seed)
        fit(
            lambda images, targets: learner.step(detector(images, targets)),
            stream,
            options.steps,
            run,
            {"detector": learner},
        )


def _freeze_all_but_added(detector: nn.Module) -> None:
    """Keep everything but the added parameters as it is, batch-norm statistics too."""
    added = set(map(id, added_parameters(detector).values()))
    for parameter in detector.parameters():
        parameter.requires_grad_(id(parameter) in added)
    for part in detector.modules():
        if isinstance(part, nn.BatchNorm2d) and id(part.weight) not in added:
            freeze(part)
