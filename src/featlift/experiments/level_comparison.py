"""An extended level learned without labels, compared with its detector and with the image at twice the size (``featlift demo``)."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

import featlift
from featlift import baseline
from featlift.checkpoints.json_io import write_json
from featlift.data.config import build_dataset, build_train_loader
from featlift.data.dataset import ImageDataset
from featlift.detectors.checkpoint import load_detector
from featlift.detectors.multi_scale import MultiScaleTTA
from featlift.evaluation.bootstrap import paired_bootstrap
from featlift.evaluation.coco_metrics import match_detections
from featlift.evaluation.comparison import Comparison
from featlift.evaluation.detection import evaluate_detector
from featlift.evaluation.object_changes import best_f1_threshold, compare_objects
from featlift.papers.registry import PAPERS
from featlift.profiling import profile_detectors
from featlift.report.records import RunRecord, read_run
from featlift.runs.options import RunOptions, open_run
from featlift.training import Learner, Run, fit
from featlift.training.schedules import StageConfig
from featlift.upgrading import enable_level, level_distillation_loss

PLAIN, EXTENDED, ENLARGED = "plain detector", "with extended level", "2x image"
"""Names of the compared detectors; the first is the reference."""


@dataclass(frozen=True)
class LevelExperiment:
    """Settings of the comparison.

    Attributes:
        detector: Training of the detector, with labels.
        level: Steps and optimizer of the extended level, trained without labels on the same images.
        level_options: Options of the level (`featlift.upgrade`).
        max_size: The level adds detections below this size (square root of the area, px).
    """

    detector: baseline.Settings
    level: StageConfig
    level_options: Mapping[str, Any]
    max_size: float


@dataclass(frozen=True)
class LevelResult:
    """Records and comparisons of the three detectors of `compare_level`, the plain one first."""

    runs: list[RunRecord]
    comparisons: list[Comparison]
    dataset: ImageDataset


def compare_level(experiment: LevelExperiment, folder: Path, seed: int = 0, device: str = "auto") -> LevelResult:
    """Train a detector and its extended level, and evaluate both and the detector on the enlarged image.

    Writes the runs ``detector`` and ``level``, and the detections ``with-extended-level.json`` and ``2x-image.json``, into ``folder``. An
    interrupted comparison is resumed.
    """
    with open_run("baseline", experiment.detector, RunOptions(folder / "detector", seed=seed, device=device)) as run:
        if not (run.folder / "result.json").exists():
            PAPERS["baseline"].run(experiment.detector, run, "", PLAIN)
    extended = train_level(experiment, folder, seed, device)
    enlarged = MultiScaleTTA(load_detector(folder / "detector")[0], (2.0,), hflip=False)
    plain = load_detector(folder / "detector")[0]
    detectors: dict[str, nn.Module] = {PLAIN: plain, EXTENDED: extended, ENLARGED: enlarged}
    dataset = build_dataset(experiment.detector.data, "val")
    runs = [
        read_run(folder / "detector"),
        *(evaluate(name, detectors[name], dataset, folder) for name in (EXTENDED, ENLARGED)),
    ]
    profiles = profile_detectors(detectors, dataset[0][0])
    for run_record in runs:
        run_record.profile = profiles[run_record.name]
    truth = dataset.coco()
    comparisons = [compare_at_common_threshold(truth, runs[0], other) for other in runs[1:]]
    return LevelResult(runs, comparisons, dataset)


def train_level(experiment: LevelExperiment, folder: Path, seed: int, device: str) -> nn.Module:
    """Return the detector of ``folder/detector`` with the level, trained without labels and enabled."""
    detector, _ = load_detector(folder / "detector")
    detector.eval()
    featlift.upgrade(detector, level="p3x", **experiment.level_options)
    settings = {"level": experiment.level, "options": experiment.level_options, "data": experiment.detector.data}
    with Run(folder / "level", settings, seed, device, save_every=100) as run:
        run.to_device(detector)
        loader = build_train_loader(experiment.detector.data, build_dataset(experiment.detector.data), seed)
        fit_level(detector, loader, experiment.level, run)
    enable_level(detector, experiment.max_size)
    return detector


def fit_level(detector: nn.Module, loader: Any, stage: StageConfig, run: Run) -> None:
    """Distill the level of ``detector`` from the detector on the enlarged images, as stage "level" of ``run``; boxes are not used."""
    learner = Learner(detector.added_level, stage.optimizer, stage.steps)  # type: ignore[arg-type]
    transform: Any = detector.transform

    def step(images: list[Tensor], _: Any) -> dict[str, Tensor]:
        return learner.step(level_distillation_loss(detector, transform(images)[0].tensors))

    fit(step, loader, stage.steps, run, {"level": learner}, "level")
    learner.apply_ema()
    detector.eval()


def evaluate(name: str, detector: nn.Module, dataset: ImageDataset, folder: Path) -> RunRecord:
    """Evaluate ``detector`` and write its detections and metrics as JSON."""
    evaluation = evaluate_detector(detector, dataset, 1)
    record = RunRecord(name, evaluation.metrics, detections=evaluation.detections)
    write_json(detections_file(folder, name), {"metrics": record.metrics, "detections": record.detections})
    return record


def detections_file(folder: Path, name: str) -> Path:
    """File of the metrics and detections of `EXTENDED` or `ENLARGED` in the folder of `compare_level`."""
    return folder / f"{name.replace(' ', '-')}.json"


def compare_at_common_threshold(truth: dict[str, Any], first: RunRecord, second: RunRecord) -> Comparison:
    """Compare boxes of two detectors; objects are found at the score threshold at which the ``first`` has its best F1, for both."""
    intervals = paired_bootstrap(truth, first.detections, second.detections)
    threshold = best_f1_threshold(match_detections(truth, first.detections))
    changes = compare_objects(truth, first.detections, second.detections, score_thresholds=(threshold, threshold))
    return Comparison(first.name, second.name, {"boxes": intervals}, changes)
