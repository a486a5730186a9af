"""An extended level learned without labels, compared with its detector and with the image at twice the size (``featlift demo``)."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

import featlift
from featlift import baseline
from featlift.checkpoints.json_io import write_json
from featlift.data.config import build_dataset
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
from featlift.runs.level_training import LevelTrainingOptions, train_level
from featlift.runs.options import RunOptions, open_run

PLAIN, EXTENDED, ENLARGED = "plain detector", "with extended level", "2x image"
"""Names of the compared detectors; the first is the reference."""


@dataclass(frozen=True)
class LevelExperiment:
    """Settings of the comparison.

    Attributes:
        detector: Training of the detector, with labels.
        level: Training of the extended level, without labels, on the same images.
        level_options: Options of the level (`featlift.upgrade`).
        max_size: The level adds detections below this size (square root of the area, px).
    """

    detector: baseline.Settings
    level: LevelTrainingOptions
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
    extended = extend_detector(experiment, folder, device)
    enlarged = MultiScaleTTA(load_detector(folder / "detector")[0], (2.0,), hflip=False)
    plain = load_detector(folder / "detector")[0]
    detectors: dict[str, nn.Module] = {PLAIN: plain, EXTENDED: extended, ENLARGED: enlarged}
    dataset = build_dataset(experiment.detector.data, "val")
    runs = [
        read_run(folder / "detector"),
        *(evaluate_and_save(name, detectors[name], dataset, folder) for name in (EXTENDED, ENLARGED)),
    ]
    profiles = profile_detectors(detectors, dataset[0][0])
    for run_record in runs:
        run_record.profile = profiles[run_record.name]
    truth = dataset.coco()
    comparisons = [compare_at_common_threshold(truth, runs[0], other) for other in runs[1:]]
    return LevelResult(runs, comparisons, dataset)


def extend_detector(experiment: LevelExperiment, folder: Path, device: str) -> nn.Module:
    """Return the detector of ``folder/detector`` with the level, trained on the training images without their labels, and enabled."""
    detector, _ = load_detector(folder / "detector")
    featlift.upgrade(detector.eval(), level="p3x", **experiment.level_options)
    images = build_dataset(experiment.detector.data)
    print(
        train_level(detector, images, folder / "level", replace(experiment.level, device=device), experiment.max_size)
    )
    return detector


def evaluate_and_save(name: str, detector: nn.Module, dataset: ImageDataset, folder: Path) -> RunRecord:
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
