"""Training of a detector with its own detection losses: the baseline, and the last stage of SRF-GAN and AFI-GAN."""

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from featlift.baseline.best_checkpoint import BestCheckpoint
from featlift.baseline.settings import Settings
from featlift.data.batches import ResumableDataLoader
from featlift.data.config import build_train_loader, load_training_set
from featlift.data.mixed_batches import MixedDataLoader
from featlift.data.run_data import read_run_category_ids
from featlift.detectors import Detector
from featlift.detectors.checkpoint import (
    DETECTOR_FILE,
    describe_copied,
    load_detector,
    load_matching_weights,
    save_detector,
)
from featlift.detectors.config import DetectorConfig, build_detector
from featlift.features import Target
from featlift.training import Learner, Run, fit
from featlift.training.schedules import StageConfig


def train(settings: Settings, run: Run) -> Detector:
    """Train a detector in ``run`` and save it as ``detector.safetensors``; an existing run is resumed, a finished one loaded."""
    dataset = load_training_set(settings.data, run)
    detector = build_detector(settings.model, len(dataset.classes))
    if settings.init_from:
        unchanged = load_matching_weights(detector, load_detector(settings.init_from)[0].state_dict())
        copied = describe_copied(detector, unchanged, settings.init_from)
        if run.rank == 0:
            print(copied)
    loader = build_train_loader(settings.data, dataset, run.seed)
    best = BestCheckpoint(run, detector, settings.model, settings.data, dataset.classes)
    train_detector(detector, loader, settings.train, run, "train", best)
    save_trained_detector(run, detector, settings.model, dataset.classes)
    return detector


def train_detector(
    detector: Detector,
    loader: ResumableDataLoader | MixedDataLoader,
    stage: StageConfig,
    run: Run,
    stage_name: str,
    best: BestCheckpoint | None = None,
    compute_losses: Callable[[list[Tensor], list[Target]], dict[str, Tensor]] | None = None,
) -> None:
    """Train ``detector`` with its detection losses, summed with weight 1, for ``stage.steps`` steps as stage ``stage_name`` of ``run``.

    ``best`` evaluates it every ``run.evaluate_every`` steps. ``compute_losses`` returns the losses of a batch instead of the detector.
    """
    learner = Learner(detector, stage.optimizer, stage.steps)
    compute_losses = compute_losses or detector

    def step(images: list[Tensor], targets: list[Target]) -> dict[str, Tensor]:
        log = learner.step(compute_losses(images, targets))
        if best is not None:
            best.evaluate_if_due(learner.num_calls)
        return log

    fit(step, loader, stage.steps, run, {"detector": learner}, stage_name)
    learner.apply_ema()


def save_trained_detector(
    run: Run,
    detector: Detector,
    config: DetectorConfig,
    classes: Sequence[str],
    filename: str = DETECTOR_FILE,
    **options: Any,
) -> None:
    """Write ``detector`` to the run folder on rank 0 while the other ranks wait; see `featlift.detectors.checkpoint.save_detector`."""
    if run.rank == 0:
        ids = read_run_category_ids(run)
        save_detector(detector, config, classes, run.folder, filename, category_ids=ids, **options)
    run.barrier()
