"""Comparison of two detectors on the same ground truth: metric differences, confidence intervals, and changed objects."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from featlift.evaluation.bootstrap import ConfidenceInterval, paired_bootstrap
from featlift.evaluation.coco_metrics import Detection, GroundTruth, IoUType
from featlift.evaluation.object_changes import ObjectChanges, compare_objects


@dataclass(frozen=True)
class Comparison:
    """Differences of the detector ``second_name`` from the detector ``first_name``."""

    first_name: str
    second_name: str
    intervals: dict[IoUType, dict[str, ConfidenceInterval]]
    """``"boxes"``, ``"masks"`` → metric name (see `coco_metrics`) → second − first with its interval."""
    object_changes: ObjectChanges
    """Matched by their boxes."""


def compare_detections(
    ground_truth: GroundTruth,
    first: Sequence[Detection],
    second: Sequence[Detection],
    names: tuple[str, str] = ("first", "second"),
    iou_types: Sequence[IoUType] = ("boxes",),
    n_resamples: int = 1000,
    seed: int = 0,
) -> Comparison:
    """Run `paired_bootstrap` for each of ``iou_types``, and `compare_objects` on the boxes.

    All detections count, also if a detector has more than COCO's 100 per image.

    Raises:
        ValueError: As `coco_metrics` and `paired_bootstrap`.
    """
    limit = max(100, *(max(Counter(d["image_id"] for d in each).values(), default=0) for each in (first, second)))
    intervals: dict[IoUType, dict[str, ConfidenceInterval]] = {
        iou_type: paired_bootstrap(ground_truth, first, second, iou_type, n_resamples, seed=seed, max_detections=limit)
        for iou_type in iou_types
    }
    return Comparison(*names, intervals, compare_objects(ground_truth, first, second, max_detections=limit))
