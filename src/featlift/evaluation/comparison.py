"""Two detectors on one ground truth: how much better, how surely, and on which objects."""

from collections.abc import Sequence
from dataclasses import dataclass

from featlift.evaluation.average_precision import Detection, GroundTruth, IoUType
from featlift.evaluation.bootstrap import ConfidenceInterval, paired_bootstrap
from featlift.evaluation.object_changes import ObjectChanges, compare_objects


@dataclass(frozen=True)
class Comparison:
    """What changes from the ``first_name`` detector to the ``second_name`` (their names)."""

    first_name: str
    second_name: str
    intervals: dict[IoUType, dict[str, ConfidenceInterval]]
    """``"boxes"``, ``"masks"`` → name of the number (`average_precision`) → second − first with its interval."""
    object_changes: ObjectChanges
    """Found by their boxes."""


def compare_detections(
    ground_truth: GroundTruth,
    first: Sequence[Detection],
    second: Sequence[Detection],
    names: tuple[str, str] = ("first", "second"),
    iou_types: Sequence[IoUType] = ("boxes",),
    n_resamples: int = 1000,
    seed: int = 0,
) -> Comparison:
    """`bootstrap` for each of ``iou_types``, and `gains`.

    Raises:
        ValueError: as `average_precision` and `bootstrap`.
    """
    intervals: dict[IoUType, dict[str, ConfidenceInterval]] = {
        kind: paired_bootstrap(ground_truth, first, second, kind, n_resamples, seed=seed) for kind in iou_types
    }
    return Comparison(*names, intervals, compare_objects(ground_truth, first, second))
