"""Upgrade of a detector, with a check of its outputs, and fine-tuning of the added interpolators."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from featlift.data.config import DataConfig, build_dataset, build_train_loader, quick_data_config
from featlift.detectors.by_name import list_coco_labels
from featlift.detectors.checkpoint import is_detector_path
from featlift.features import flatten_tensors
from featlift.integrations.by_name import has_torchvision_interface
from featlift.resolution import freeze
from featlift.training import Learner, Run, fit
from featlift.training.schedules import quick_optimizer
from featlift.upgrading import added_parameters, upgrade


@dataclass(frozen=True)
class FineTuneOptions:
    """Training of the added modules.

    Attributes:
        steps: Number of training steps of two images; 0 trains nothing.
        lr: Initial learning rate of AdamW with cosine decay.
        train_all: Train the whole detector instead of the added modules only.
        seed: Random seed of the added modules, the order of the images and their augmentation.
    """

    steps: int = 0
    lr: float = 1e-3
    train_all: bool = False
    seed: int = 0


NO_FINE_TUNING = FineTuneOptions()


def check_options_have_effect(steps: int, is_given: Mapping[str, bool]) -> None:
    """Check that no option of a training is given without steps; ``is_given`` tells it by name.

    Raises:
        ValueError: If one is given although nothing is trained.
    """
    given = [f"--{name}" for name, given in is_given.items() if given]
    if given and not steps:
        raise ValueError(f"{', '.join(given)} would have no effect, because nothing is trained: give --steps N, too.")


def warn_about_random_weights(model: str, weights: str) -> None:
    """Warn if ``model`` is a network of that name with ``weights`` "none", and no file, folder or repository of FeatLift."""
    place = model.partition(":")[2] if ":" in model and ".py:" not in model else model
    if weights == "none" and ".py:" not in model and not is_detector_path(model) and not Path(place).exists():
        warnings.warn(
            f"{model} has random weights; --weights DEFAULT downloads COCO's, or give a FILE.",
            stacklevel=2,
        )


def check_coco_labels(model: str, weights: str, data: str) -> None:
    """Check that the labels 1 … K of ``data`` are those of torchvision's "DEFAULT" weights, which a fine-tuning trains further.

    Raises:
        ValueError: If a class has another label in the weights.
    """
    model = model.removeprefix("torchvision:")
    if weights != "DEFAULT" or Path(model).exists() or ":" in model:
        return
    classes, labels = build_dataset(DataConfig(root=data)).classes, list_coco_labels(model)
    if list(classes) != labels[1 : len(classes) + 1]:
        raise ValueError(
            f"--weights DEFAULT of {model} has the {len(labels)} labels of COCO; the classes of {data} are not these in this order: "
            f"{', '.join(classes[:5])}{', …' if len(classes) > 5 else ''}. Give --weights FILE of a detector trained on "
            "these classes, or a run folder in place of the name, or no --steps."
        )


def upgrade_and_print(detector: nn.Module, name: str, level: str = "", network: nn.Module | None = None) -> None:
    """Upgrade ``detector`` in place with `featlift.upgrade`; print its report, and whether the outputs are bit-identical.

    ``network`` is the module within the detector that is upgraded, by default the detector.
    """
    image = torch.rand(3, 256, 320, generator=torch.Generator().manual_seed(0))
    before = run_on_image(detector, image)
    print(upgrade(network or detector, name, level=level))
    same = all(torch.equal(x, y) for x, y in zip(before, run_on_image(detector, image), strict=True))
    print(f"outputs on an image before and after: {'bit-identical' if same else 'DIFFERENT'}")


@torch.inference_mode()
def run_on_image(network: nn.Module, image: Tensor) -> list[Tensor]:
    """Return all output tensors of ``network``, in evaluation mode, on ``image [3, H, W]``, a batch of one for other libraries."""
    network.eval()
    return flatten_tensors(network([image]) if has_torchvision_interface(network) else network(image[None]))


def check_trainable(network: nn.Module, name: str) -> None:
    """Check that the detection losses of ``network`` are known, for training on the command line.

    Raises:
        ValueError: If it is the network of another library.
    """
    if not has_torchvision_interface(network):
        raise ValueError(
            f"{name} has its own losses: train it with the trainer of its library (docs/own_trainer.md), or leave out --steps to only "
            "write the upgrade."
        )


def fine_tune_upgrade(
    detector: nn.Module, data: str, options: FineTuneOptions, folder: Path, device: str = "auto"
) -> None:
    """Fine-tune the added modules, or all, of ``detector`` with its detection losses on the images of ``data``; log to ``folder``."""
    if not options.train_all:
        _freeze_all_but_added(detector)
    config = replace(quick_data_config(), root=data, batch_size=2)
    optimizer = replace(quick_optimizer(options.lr), warmup_steps=min(10, options.steps // 10))
    settings = {"data": config, "steps": options.steps, "optimizer": optimizer, "train_all": options.train_all}
    with Run(folder, settings, options.seed, device) as run:
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
