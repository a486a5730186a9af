"""Which objects one detector finds and another does not: AP tells how much, this tells what.

Each detector is taken at the score threshold of its best F1 on the same ground truth (IoU 0.5, all classes together):
the working point a user would tune for, chosen by one rule for both. An object counts as found when a detection of its
class, at or above the threshold, is matched to it at IoU ≥ 0.5 by COCO's matching. Crowds are nobody's object.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from featlift.evaluation.average_precision import (
    AREA_RANGES,
    ClassMatches,
    Detection,
    GroundTruth,
    IoUType,
    detection_iou,
    match_detections,
)

Outcome = Literal["gained", "lost", "moved", "kept", "missed"]
OUTCOMES: tuple[Outcome, ...] = ("gained", "lost", "moved", "kept", "missed")
AREA_BINS = ("tiny", "small", "medium", "large")
MIN_IOU_CHANGE = 0.1
"""An object that both find has moved if its IoU changed by more than this."""


@dataclass(frozen=True)
class ObjectOutcome:
    """What became of one object."""

    outcome: Outcome
    """gained: the second finds it, not the first. lost: the reverse. missed: neither. Both: moved (see `MOVED`) or
    kept.
    """
    image_id: int
    annotation_id: int
    category: str
    area_bin: str
    """Of `BINS`, each object in one: here small begins where tiny ends (16²)."""
    box: tuple[float, float, float, float]
    """xywh px"""
    first_detection: Detection | None
    second_detection: Detection | None
    """The detections that found it."""
    ious: tuple[float, float]
    """IoU of the first's and the second's detection with it, 0 where there is none."""

    @property
    def iou_change(self) -> float:
        """IoU of the second minus that of the first."""
        return self.ious[1] - self.ious[0]


@dataclass(frozen=True)
class ObjectChanges:
    """The fate of every object, and what the two detectors raised for it."""

    outcomes: list[ObjectOutcome]
    score_thresholds: tuple[float, float]
    """The scores from which the first and the second count."""
    false_positives: tuple[int, int]
    """Detections of the first and the second, at or above their thresholds, on nothing."""

    def with_outcome(self, outcome: Outcome) -> list[ObjectOutcome]:
        """The objects with this outcome, largest change of IoU first."""
        return sorted(
            (fate for fate in self.outcomes if fate.outcome == outcome), key=lambda fate: -abs(fate.iou_change)
        )

    def count_by_size(self) -> dict[str, Counter[Outcome]]:
        """Bin → how many objects had each outcome; every bin is there."""
        return {size: Counter(fate.outcome for fate in self.outcomes if fate.area_bin == size) for size in AREA_BINS}

    def count_by_category(self) -> dict[str, Counter[Outcome]]:
        """Class → how many objects had each outcome; classes without objects are not there."""
        names = sorted({fate.category for fate in self.outcomes})
        return {name: Counter(fate.outcome for fate in self.outcomes if fate.category == name) for name in names}


def compare_objects(
    ground_truth: GroundTruth,
    first: Sequence[Detection],
    second: Sequence[Detection],
    iou_type: IoUType = "boxes",
    score_thresholds: tuple[float, float] | None = None,
) -> ObjectChanges:
    """Compare two detectors object by object; ``score_thresholds`` are found by `best_f1` when None.

    Raises:
        ValueError: as `average_precision`.
    """
    limits = score_thresholds or (None, None)
    before, after = (
        _operating_point(ground_truth, one, iou_type, t) for one, t in zip((first, second), limits, strict=True)
    )
    fates = [
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
        fates, (before.score_threshold, after.score_threshold), (before.false_positives, after.false_positives)
    )


@dataclass(frozen=True)
class _OperatingPoint:
    """A detector at its working point; ``matched_detections`` maps the id of an annotation to the detection that found it."""

    score_threshold: float
    matched_detections: dict[int, Detection]
    false_positives: int


def _operating_point(
    ground_truth: GroundTruth, detections: Sequence[Detection], iou_type: IoUType, score_threshold: float | None
) -> _OperatingPoint:
    found = match_detections(ground_truth, detections, iou_type)
    score_threshold = best_f1_threshold(found) if score_threshold is None else score_threshold
    finders = {
        int(one.annotation_id[i]): detections[one.detection_index[i]]
        for one in found
        for i in np.flatnonzero(one.true_positive[0] & (one.score >= score_threshold))
    }
    return _OperatingPoint(
        score_threshold,
        finders,
        sum(int((one.false_positive[0] & (one.score >= score_threshold)).sum()) for one in found),
    )


def _object_outcome(
    ground_truth: GroundTruth,
    annotation: Detection,
    first: Detection | None,
    second: Detection | None,
    iou_type: IoUType,
) -> ObjectOutcome:
    names = {category["id"]: category["name"] for category in ground_truth["categories"]}
    before, after = (detection_iou(ground_truth, annotation, one, iou_type) if one else 0.0 for one in (first, second))
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
        return "moved" if abs(after - before) > MIN_IOU_CHANGE else "kept"
    return "gained" if after else "lost" if before else "missed"


def best_f1_threshold(class_matches: Iterable[ClassMatches]) -> float:
    """The score threshold (detections at or above it count) with the best F1 = 2·right / (detections + objects), IoU
    0.5.

    The highest of several equal ones; infinity when nothing was ever found.
    """
    class_matches = list(class_matches)
    score = np.concatenate([one.score for one in class_matches])
    order = np.argsort(-score, kind="stable")
    score = score[order]
    right = np.concatenate([one.true_positive[0] for one in class_matches])[order].cumsum()
    wrong = np.concatenate([one.false_positive[0] for one in class_matches])[order].cumsum()
    if not len(right) or not right[-1]:
        return float("inf")
    f1 = 2 * right / (right + wrong + sum(int(one.num_objects.sum()) for one in class_matches))
    last_of_its_score = np.append(score[:-1] != score[1:], True)
    return float(score[np.argmax(np.where(last_of_its_score, f1, -1))])


def area_bin_of(area: float) -> str:
    """The one of `BINS` that ``area`` (px²) falls into; a bound belongs to the larger bin."""
    return next((size for size in AREA_BINS[:-1] if area < AREA_RANGES[size][1]), AREA_BINS[-1])
