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
    SIZES,
    ClassMatches,
    Detection,
    GroundTruth,
    Kind,
    matches,
    overlap,
)

Outcome = Literal["gained", "lost", "moved", "kept", "missed"]
OUTCOMES: tuple[Outcome, ...] = ("gained", "lost", "moved", "kept", "missed")
BINS = ("tiny", "small", "medium", "large")
MOVED = 0.1
"""An object that both find has moved if its IoU changed by more than this."""


@dataclass(frozen=True)
class Fate:
    """What became of one object."""

    outcome: Outcome
    """gained: the second finds it, not the first. lost: the reverse. missed: neither. Both: moved (see `MOVED`) or
    kept.
    """
    image_id: int
    annotation_id: int
    category: str
    size: str
    """Of `BINS`, each object in one: here small begins where tiny ends (16²)."""
    box: tuple[float, float, float, float]
    """xywh px"""
    first: Detection | None
    second: Detection | None
    """The detections that found it."""
    iou: tuple[float, float]
    """IoU of the first's and the second's detection with it, 0 where there is none."""

    @property
    def change(self) -> float:
        """IoU of the second minus that of the first."""
        return self.iou[1] - self.iou[0]


@dataclass(frozen=True)
class Gains:
    """The fate of every object, and what the two detectors raised for it."""

    fates: list[Fate]
    thresholds: tuple[float, float]
    """The scores from which the first and the second count."""
    false_alarms: tuple[int, int]
    """Detections of the first and the second, at or above their thresholds, on nothing."""

    def of(self, outcome: Outcome) -> list[Fate]:
        """The objects with this outcome, largest change of IoU first."""
        return sorted((fate for fate in self.fates if fate.outcome == outcome), key=lambda fate: -abs(fate.change))

    def by_size(self) -> dict[str, Counter[Outcome]]:
        """Bin → how many objects had each outcome; every bin is there."""
        return {size: Counter(fate.outcome for fate in self.fates if fate.size == size) for size in BINS}

    def by_category(self) -> dict[str, Counter[Outcome]]:
        """Class → how many objects had each outcome; classes without objects are not there."""
        names = sorted({fate.category for fate in self.fates})
        return {name: Counter(fate.outcome for fate in self.fates if fate.category == name) for name in names}


def gains(
    truth: GroundTruth,
    first: Sequence[Detection],
    second: Sequence[Detection],
    kind: Kind = "boxes",
    thresholds: tuple[float, float] | None = None,
) -> Gains:
    """Compare two detectors object by object; ``thresholds`` are found by `best_f1` when None.

    Raises:
        ValueError: as `average_precision`.
    """
    limits = thresholds or (None, None)
    before, after = (_taken(truth, one, kind, t) for one, t in zip((first, second), limits, strict=True))
    fates = [
        _fate(truth, annotation, before.finders.get(annotation["id"]), after.finders.get(annotation["id"]), kind)
        for annotation in truth["annotations"]
        if not annotation.get("iscrowd")
    ]
    return Gains(fates, (before.threshold, after.threshold), (before.false_alarms, after.false_alarms))


@dataclass(frozen=True)
class _Taken:
    """A detector at its working point; ``finders`` maps the id of an annotation to the detection that found it."""

    threshold: float
    finders: dict[int, Detection]
    false_alarms: int


def _taken(truth: GroundTruth, detections: Sequence[Detection], kind: Kind, threshold: float | None) -> _Taken:
    found = matches(truth, detections, kind)
    threshold = best_f1(found) if threshold is None else threshold
    finders = {
        int(one.annotation[i]): detections[one.detection[i]]
        for one in found
        for i in np.flatnonzero(one.hit[0] & (one.score >= threshold))
    }
    return _Taken(threshold, finders, sum(int((one.miss[0] & (one.score >= threshold)).sum()) for one in found))


def _fate(
    truth: GroundTruth, annotation: Detection, first: Detection | None, second: Detection | None, kind: Kind
) -> Fate:
    names = {category["id"]: category["name"] for category in truth["categories"]}
    before, after = (overlap(truth, annotation, one, kind) if one else 0.0 for one in (first, second))
    return Fate(
        _outcome(before, after),
        annotation["image_id"],
        annotation["id"],
        names[annotation["category_id"]],
        bin_of(annotation["area"]),
        tuple(annotation["bbox"]),
        first,
        second,
        (before, after),
    )


def _outcome(before: float, after: float) -> Outcome:
    if before and after:
        return "moved" if abs(after - before) > MOVED else "kept"
    return "gained" if after else "lost" if before else "missed"


def best_f1(found: Iterable[ClassMatches]) -> float:
    """The score threshold (detections at or above it count) with the best F1 = 2·right / (detections + objects), IoU
    0.5.

    The highest of several equal ones; infinity when nothing was ever found.
    """
    found = list(found)
    score = np.concatenate([one.score for one in found])
    order = np.argsort(-score, kind="stable")
    score = score[order]
    right = np.concatenate([one.hit[0] for one in found])[order].cumsum()
    wrong = np.concatenate([one.miss[0] for one in found])[order].cumsum()
    if not len(right) or not right[-1]:
        return float("inf")
    f1 = 2 * right / (right + wrong + sum(int(one.objects.sum()) for one in found))
    last_of_its_score = np.append(score[:-1] != score[1:], True)
    return float(score[np.argmax(np.where(last_of_its_score, f1, -1))])


def bin_of(area: float) -> str:
    """The one of `BINS` that ``area`` (px²) falls into; a bound belongs to the larger bin."""
    return next((size for size in BINS[:-1] if area < SIZES[size][1]), BINS[-1])
