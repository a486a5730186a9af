"""How sure is a difference in AP? The paired bootstrap over pictures (Efron & Tibshirani, 1993, Ch. 8 and 13).

Matching detections with objects happens within a picture, so it is done once. A resample only says how often each
picture counts, and AP is accumulated again from the matches with those weights: exactly what COCO's code would give on
the repeated pictures (up to the order of detections whose scores are equal).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from featlift.evaluation.average_precision import IOUS, SIZES, ClassMatches, Detection, GroundTruth, Kind, matches

RECALLS = np.linspace(0, 1, 101)
CELLS = 2_000_000
"""Resamples are done in groups of so many (weight, detection) pairs: 16 MB an array."""

Values = dict[str, NDArray[np.float64]]


@dataclass(frozen=True)
class Interval:
    """How much larger a number is for the second detector than for the first, and the percentile interval of that."""

    difference: float
    low: float
    high: float
    confidence: float

    @property
    def certain(self) -> bool:
        """Whether the interval leaves zero out."""
        return self.low > 0 or self.high < 0

    @property
    def percent(self) -> str:
        """Times 100, with the interval: "+1.2 [+0.2, +2.6]"."""
        return f"{100 * self.difference:+.1f} [{100 * self.low:+.1f}, {100 * self.high:+.1f}]"


def bootstrap(
    truth: GroundTruth,
    first: Sequence[Detection],
    second: Sequence[Detection],
    kind: Kind = "boxes",
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> dict[str, Interval]:
    """``second`` − ``first`` for ``ap ap50 ap75 ar`` and ``ap_… ar_…`` of each size that has objects.

    The same pictures are drawn for both. A resample in which a size has no object says nothing about that size and is
    left out there.

    Raises:
        ValueError: if ``resamples`` is less than 2, ``confidence`` not in (0, 1), or as `average_precision`.
    """
    if resamples < 2 or not 0 < confidence < 1:
        raise ValueError(f"resamples is {resamples} (at least 2) and confidence {confidence} (between 0 and 1).")
    weights = draws(len(truth["images"]), resamples, seed)
    before, after = (resampled(truth, detections, weights, kind) for detections in (first, second))
    edges = [50 * (1 - confidence), 50 * (1 + confidence)]
    intervals = {}
    for name, values in after.items():
        difference = values - before[name]
        if not np.isnan(difference[0]):
            low, high = np.nanpercentile(difference[1:], edges)
            intervals[name] = Interval(float(difference[0]), float(low), float(high), confidence)
    return intervals


def draws(pictures: int, resamples: int, seed: int = 0) -> NDArray[np.int64]:
    """``[1 + resamples, pictures]``: how often each picture counts. The first row is the data as they are."""
    random = np.random.default_rng(seed)
    drawn = random.multinomial(pictures, np.full(pictures, 1 / max(pictures, 1)), size=resamples)
    return np.concatenate([np.ones((1, pictures), np.int64), drawn])


def resampled(
    truth: GroundTruth, detections: Sequence[Detection], weights: NDArray[np.int64], kind: Kind = "boxes"
) -> Values:
    """The numbers of `average_precision` for each row of ``weights [R, pictures]`` (pictures in the order of their
    ids), each ``[R]``.

    NaN where no object of that size is drawn.
    """
    values: Values = {}
    for size in SIZES:
        per_class = [_class_values(one, weights) for one in matches(truth, detections, kind, size)]
        precision, recall = (np.stack([pair[i] for pair in per_class], axis=-1) for i in (0, 1))  # [R, 10, classes]
        end = "" if size == "all" else f"_{size}"
        values |= {f"ap{end}": _mean(precision), f"ar{end}": _mean(recall)}
        if size == "all":
            values |= {"ap50": _mean(precision[:, :1]), "ap75": _mean(precision[:, 5:6])}
    return values


def _mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The mean over IoUs and classes ``[R, T, K]`` → ``[R]``, classes that are not there (NaN) left out."""
    there = ~np.isnan(values)
    count = there.sum((1, 2))
    return np.where(count > 0, np.where(there, values, 0).sum((1, 2)) / np.maximum(count, 1), np.nan)


def _class_values(found: ClassMatches, weights: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """AP and recall, each ``[R, 10]``, of one class."""
    order = np.argsort(-found.score, kind="stable")
    image, hit, miss = found.image[order], found.hit[:, order], found.miss[:, order]
    precision, recall = np.zeros((2, len(weights), len(IOUS)))
    group = max(1, CELLS // max(1, len(order)))
    for start in range(0, len(weights), group):
        rows = slice(start, start + group)
        objects, drawn = weights[rows] @ found.objects, weights[rows][:, image]
        for i in range(len(IOUS)):
            precision[rows, i], recall[rows, i] = accumulate(drawn, hit[i], miss[i], objects)
    return precision, recall


def accumulate(
    weights: NDArray[np.int64], hit: NDArray[np.bool_], miss: NDArray[np.bool_], objects: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """AP (mean over 101 recalls of the precision's envelope) and the last recall, each ``[R]``; NaN where ``objects``
    is 0.

    ``weights [R, n]`` of detections, best first; ``hit [n]``, ``miss [n]``; ``objects [R]``. Precision has its peaks
    where something is found, so only those places are looked at; a place stands for the recalls that it is the first to
    reach.
    """
    right = np.cumsum(weights[:, hit], axis=1)
    wrong = np.cumsum(weights * miss, axis=1)[:, hit]
    known = np.where(objects > 0, objects, np.nan)
    if not right.shape[1]:
        return known * 0, known * 0
    precision = right / np.maximum(right + wrong, 1)
    envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    recall = right / np.maximum(objects, 1)[:, None]
    reached = np.searchsorted(RECALLS, recall, side="right")
    newly = np.diff(reached, axis=1, prepend=0)
    return (envelope * newly).sum(1) / len(RECALLS) + known * 0, recall[:, -1] + known * 0
