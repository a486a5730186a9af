"""Object-by-object comparison of two detectors: which objects the second detects and the first does not, and vice versa.

Each detector is evaluated at the score threshold of its best F1 on the same ground truth (IoU 0.5, all classes
together), so the operating points of both are chosen by the same rule. An object is detected if a detection of its class, at
or above the threshold, is matched to it at IoU ≥ 0.5 by COCO's matching. Crowd annotations are ignored.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from featlift.data.object_sizes import AREA_BINS, area_bin_of
from featlift.evaluation.coco_metrics import (
    ClassMatches,
    Detection,
    GroundTruth,
    IoUType,
    match_detections,
)
from featlift.evaluation.iou import detection_iou

Outcome = Literal["gained", "lost", "shifted", "unchanged", "missed"]
OUTCOMES: tuple[Outcome, ...] = ("gained", "lost", "shifted", "unchanged", "missed")
MIN_IOU_CHANGE = 0.1
"""An object that both detect counts as shifted if its IoU changes by more than this."""


@dataclass(frozen=True)
class ObjectOutcome:
    """How the detection of an object differs between the two detectors."""

    outcome: Outcome
    """gained: detected by the second only. lost: by the first only. missed: by neither. By both: shifted (see
    `MIN_IOU_CHANGE`) or unchanged.
    """
    image_id: int
    annotation_id: int
    category: str
    area_bin: str
    """One of `AREA_BINS`, which do not overlap: small starts at the upper bound of tiny (16² px²)."""
    box: tuple[float, float, float, float]
    """xywh px"""
    first_detection: Detection | None
    second_detection: Detection | None
    """The detections matched to it."""
    ious: tuple[float, float]
    """IoU of the first and the second detection with the object, 0 if there is none."""

    @property
    def iou_change(self) -> float:
        """IoU of the second detection minus that of the first."""
        return self.ious[1] - self.ious[0]


@dataclass(frozen=True)
class ObjectChanges:
    """Outcome of every object, with the operating points and false positives of the two detectors."""

    outcomes: list[ObjectOutcome]
    score_thresholds: tuple[float, float]
    """Score thresholds of the first and the second detector."""
    false_positives: tuple[int, int]
    """Number of false positives of the first and the second detector, at or above their thresholds."""

    def with_outcome(self, outcome: Outcome) -> list[ObjectOutcome]:
        """Return the objects with this outcome, largest change of IoU first."""
        return sorted(
            (item for item in self.outcomes if item.outcome == outcome), key=lambda item: -abs(item.iou_change)
        )

    def count_by_size(self) -> dict[str, Counter[Outcome]]:
        """Count the outcomes for each of `AREA_BINS`; empty bins included."""
        return {size: Counter(item.outcome for item in self.outcomes if item.area_bin == size) for size in AREA_BINS}

    def count_by_category(self) -> dict[str, Counter[Outcome]]:
        """Count the outcomes for each class name; classes without objects are omitted."""
        names = sorted({item.category for item in self.outcomes})
        return {name: Counter(item.outcome for item in self.outcomes if item.category == name) for name in names}


def compare_objects(
    ground_truth: GroundTruth,
    first: Sequence[Detection],
    second: Sequence[Detection],
    iou_type: IoUType = "boxes",
    score_thresholds: tuple[float, float] | None = None,
    max_detections: int = 100,
) -> ObjectChanges:
    """Compare two detectors object by object; if None, ``score_thresholds`` are chosen by `best_f1_threshold`.

    Raises:
        ValueError: As `coco_metrics`.
    """
    thresholds = score_thresholds or (None, None)
    before, after = (
        _operating_point(ground_truth, detections, iou_type, threshold, max_detections)
        for detections, threshold in zip((first, second), thresholds, strict=True)
    )
    outcomes = [
        _object_outcome(
            ground_truth,
            annotation,
            before.matched_detections.get(annotation["id"]),
            after.matched_detections.get(annotation["id"]),
            iou_type,
        )
        for annotation in ground_truth["annotations"]
        if not annotation.get("iscrowd")
    ]
    return ObjectChanges(
        outcomes, (before.score_threshold, after.score_threshold), (before.false_positives, after.false_positives)
    )


@dataclass(frozen=True)
class _OperatingPoint:
    """A detector at a score threshold; ``matched_detections`` maps annotation ids to the detections matched to them."""

    score_threshold: float
    matched_detections: dict[int, Detection]
    false_positives: int


def _operating_point(
    ground_truth: GroundTruth,
    detections: Sequence[Detection],
    iou_type: IoUType,
    score_threshold: float | None,
    max_detections: int,
) -> _OperatingPoint:
    class_matches = match_detections(ground_truth, detections, iou_type, max_detections=max_detections)
    score_threshold = best_f1_threshold(class_matches) if score_threshold is None else score_threshold
    matched_detections = {
        int(matches.annotation_id[i]): detections[matches.detection_index[i]]
        for matches in class_matches
        for i in np.flatnonzero(matches.true_positive[0] & (matches.score >= score_threshold))
    }
    false_positives = sum(
        int((matches.false_positive[0] & (matches.score >= score_threshold)).sum()) for matches in class_matches
    )
    return _OperatingPoint(score_threshold, matched_detections, false_positives)


def _object_outcome(
    ground_truth: GroundTruth,
    annotation: Detection,
    first: Detection | None,
    second: Detection | None,
    iou_type: IoUType,
) -> ObjectOutcome:
    names = {category["id"]: category["name"] for category in ground_truth["categories"]}
    before, after = (
        detection_iou(ground_truth, annotation, detection, iou_type) if detection else 0.0
        for detection in (first, second)
    )
    return ObjectOutcome(
        _classify_change(before, after),
        annotation["image_id"],
        annotation["id"],
        names[annotation["category_id"]],
        area_bin_of(annotation["area"]),
        tuple(annotation["bbox"]),
        first,
        second,
        (before, after),
    )


def _classify_change(before: float, after: float) -> Outcome:
    if before and after:
        return "shifted" if abs(after - before) > MIN_IOU_CHANGE else "unchanged"
    return "gained" if after else "lost" if before else "missed"


def best_f1_threshold(class_matches: Iterable[ClassMatches]) -> float:
    """Return the score threshold with the best F1 = 2·TP / (detections + objects) at IoU 0.5.

    Detections at or above it count. Ties: the highest threshold; infinity if there is no true positive.
    """
    class_matches = list(class_matches)
    score = np.concatenate([matches.score for matches in class_matches])
    order = np.argsort(-score, kind="stable")
    score = score[order]
    tp = np.concatenate([matches.true_positive[0] for matches in class_matches])[order].cumsum()
    fp = np.concatenate([matches.false_positive[0] for matches in class_matches])[order].cumsum()
    if not len(tp) or not tp[-1]:
        return float("inf")
    f1 = 2 * tp / (tp + fp + sum(int(matches.num_objects.sum()) for matches in class_matches))
    is_last_of_ties = np.append(score[:-1] != score[1:], True)
    return float(score[np.argmax(np.where(is_last_of_ties, f1, -1))])
