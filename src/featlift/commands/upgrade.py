"""``featlift upgrade``: a learned interpolator in a torchvision detector, trained a little, as a delta file."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from featlift.deployment.latency_budget import UNLIMITED, Budget, within
from featlift.papers import baseline
from featlift.resolution import freeze
from featlift.training import Learner, Run, fit
from featlift.upgrading import added_parameters, load_delta, save_delta
from featlift.upgrading import upgrade as upgraded


@dataclass(frozen=True)
class Tuning:
    """How what was added is trained.

    Attributes:
        steps: of two pictures.
        rate: of AdamW, a cosine.
        everything: train the whole detector and not only what was added.
    """

    steps: int = 0
    rate: float = 1e-3
    everything: bool = False


def upgrade(
    model: str,
    interpolator: str = "afi",
    weights: str = "none",
    data: str = "",
    tuning: Tuning = Tuning(),
    budget: Budget = UNLIMITED,
    out: str = "upgrade.safetensors",
) -> Path:
    """Upgrade a detector in place, train what was added, and write a file that holds only the difference.

    Without steps it prints what would be added and checks that the outputs are the same to the last bit.

    Args:
        model: a detector of torchvision ("fasterrcnn_resnet50_fpn"), or a run folder of ours.
        interpolator: see `featlift list interpolators`.
        weights: for torchvision: "none", "DEFAULT" (downloads them) or a file.
        data: COCO folder to train on, or "scenes".
        tuning: steps, rate, and what is trained.
        budget: choose the interpolator by what it costs.
        out: the delta file; `featlift.load_delta` puts it onto the same detector again. The training's log is beside it (``….run``).

    Raises:
        ValueError: for unknown names, or if no interpolator keeps to the budget.
    """
    detector = named(model, weights, data)
    if budget.budget_ms:
        interpolator = within(detector, budget)
    picture = torch.rand(3, 256, 320, generator=torch.Generator().manual_seed(0))
    before = answers(detector, picture)
    print(upgraded(detector, interpolator))
    same = all(torch.equal(x, y) for x, y in zip(before, answers(detector, picture), strict=True))
    print(f"outputs on a picture before and after: {'the same to the last bit' if same else 'DIFFERENT'}")
    if tuning.steps:
        _train(detector, data or "scenes", tuning, Path(f"{out}.run"))
    save_delta(detector, out)
    print(out)
    return Path(out)


def apply(model: str, delta: str, weights: str = "none") -> nn.Module:
    """The detector called ``model`` with a delta file of :func:`upgrade` put onto it."""
    detector = named(model, weights)
    load_delta(detector, delta)
    return detector


def named(model: str, weights: str = "none", data: str = "") -> nn.Module:
    """torchvision's detector called ``model``, built for the classes of ``data`` unless it brings weights, or that of a run folder."""
    if Path(model).exists():
        return baseline.load(model)[0]
    from torchvision.models import get_model

    if model not in _names():
        raise ValueError(f"'{model}' is neither a run folder nor a detector of torchvision ({', '.join(_names())}).")
    if weights == "DEFAULT":
        return get_model(model, weights="DEFAULT")
    count = len(baseline.pictures(baseline.Data(root=data)).classes) if data else 90
    detector = get_model(model, weights=None, weights_backbone=None, num_classes=count + 1)
    if weights != "none":
        from featlift.checkpoints import load_state

        print(load_state(detector, weights))
    return detector


def _names() -> list[str]:
    from torchvision.models import detection, list_models

    return list_models(module=detection)


@torch.inference_mode()
def answers(detector: nn.Module, picture: torch.Tensor) -> list[torch.Tensor]:
    """What ``detector`` finds in ``picture [3, H, W]``: boxes, labels, scores, …"""
    return list(detector.eval()([picture])[0].values())


def _train(detector: nn.Module, data: str, tuning: Tuning, folder: Path) -> None:
    if not tuning.everything:
        _only_added(detector)
    shown = replace(baseline.quick_data(), root=data, batch=2)
    descent = replace(baseline.quick_descent(tuning.rate), warmup=min(10, tuning.steps // 10))
    settings = {"data": shown, "steps": tuning.steps, "descent": descent, "everything": tuning.everything}
    with Run(folder, settings) as run:
        learner = Learner(detector, descent, tuning.steps)
        stream = baseline.batches(shown, baseline.pictures(shown), run.seed)
        fit(
            lambda images, targets: learner.descend(detector(images, targets)),
            stream,
            tuning.steps,
            run,
            {"detector": learner},
        )


def _only_added(detector: nn.Module) -> None:
    """Keep everything but the added parameters as it is, batch-norm statistics too."""
    added = set(map(id, added_parameters(detector).values()))
    for parameter in detector.parameters():
        parameter.requires_grad_(id(parameter) in added)
    for part in detector.modules():
        if isinstance(part, nn.BatchNorm2d) and id(part.weight) not in added:
            freeze(part)
