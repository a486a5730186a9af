"""Evaluation during the training of a detector, and the weights of its best evaluation."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from featlift.checkpoints.damage import read_json
from featlift.checkpoints.json_io import write_json
from featlift.data.config import DataConfig, build_dataset
from featlift.data.run_data import read_run_category_ids
from featlift.detectors import Detector
from featlift.detectors.checkpoint import save_detector
from featlift.detectors.config import DetectorConfig
from featlift.evaluation.class_mapping import match_classes
from featlift.evaluation.detection import evaluate_detector
from featlift.training import Run
from featlift.training.learner import not_compiled

BEST_DETECTOR_FILE = "best_detector.safetensors"
BEST_FILE = "best.json"


@dataclass
class BestCheckpoint:
    """Evaluates a detector on the validation images and keeps the weights of the highest AP.

    Attributes:
        run: Run whose ``evaluate_every`` is the number of steps between evaluations; 0 for none.
        detector: Detector in training.
        config: Its configuration.
        data: Validation images.
        classes: Class names.
    """

    run: Run
    detector: Detector
    config: DetectorConfig
    data: DataConfig
    classes: Sequence[str]

    @not_compiled
    def evaluate_if_due(self, step: int) -> None:
        """Evaluate after ``step`` steps if it is a multiple of ``run.evaluate_every``; log AP, and write ``best_detector.safetensors``
        and ``best.json`` (``step``, ``ap``) if it is the highest so far, also over a resumed run. All ranks call it: each detects in its
        share of the images, and rank 0 writes.
        """
        if self.run.evaluate_every and step % self.run.evaluate_every == 0:
            self._evaluate(step)
            self.run.barrier()

    def _evaluate(self, step: int) -> None:
        dataset = build_dataset(self.data, "val")
        label_ids = match_classes(self.classes, dataset)
        was_training = self.detector.training
        evaluation = evaluate_detector(
            self.detector, dataset, self.data.batch_size, self.run.device, progress=False, label_ids=label_ids
        )
        self.detector.train(was_training)
        if self.run.rank != 0:
            return
        ap = evaluation.metrics["boxes"]["ap"]
        self.run.log({"stage": "evaluation", "step": step, "ap": ap})
        best = _read_best(self.run.folder)
        if ap is not None and (best is None or ap > best["ap"] or step < best["step"]):
            ids = read_run_category_ids(self.run)
            save_detector(
                self.detector, self.config, self.classes, self.run.folder, BEST_DETECTOR_FILE, category_ids=ids
            )
            write_json(self.run.folder / BEST_FILE, {"step": step, "ap": ap})


def _read_best(folder: Path) -> dict[str, float] | None:
    """Return the step and AP of the best evaluation of the run in ``folder``; None before the first."""
    return read_json(folder / BEST_FILE) if (folder / BEST_FILE).exists() else None
