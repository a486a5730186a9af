"""How sure is a difference in AP? The paired bootstrap over pictures (Efron & Tibshirani, 1993, Ch. 8 and 13).

Matching detections with objects happens within a picture, so it is done once. A resample only says how often each
picture counts, and AP is accumulated again from the matches with those weights: exactly what COCO's code would give on
the repeated pictures (up to the order of detections whose scores are equal).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from featlift.evaluation.average_precision import (
    AREA_RANGES,
    COCO_IOU_THRESHOLDS,
    ClassMatches,
    Detection,
    GroundTruth,
    IoUType,
    match_detections,
)

RECALL_THRESHOLDS = np.linspace(0, 1, 101)
MAX_CHUNK_ELEMENTS = 2_000_000
"""Resamples are done in groups of so many (weight, detection) pairs: 16 MB an array."""

MetricSamples = dict[str, NDArray[np.float64]]


@dataclass(frozen=True)
class ConfidenceInterval:
    """How much larger a number is for the second detector than for the first, and the percentile interval of that."""

    difference: float
    low: float
    high: float
    confidence_level: float

    @property
    def is_significant(self) -> bool:
        """Whether the interval leaves zero out."""
        return self.low > 0 or self.high < 0

    @property
    def percent_text(self) -> str:
        """Times 100, with the interval: "+1.2 [+0.2, +2.6]"."""
        return f"{100 * self.difference:+.1f} [{100 * self.low:+.1f}, {100 * self.high:+.1f}]"


def paired_bootstrap(
    ground_truth: GroundTruth,
    first: Sequence[Detection],
    second: Sequence[Detection],
    iou_type: IoUType = "boxes",
    n_resamples: int = 1000,
    confidence_level: float = 0.95,
    seed: int = 0,
) -> dict[str, ConfidenceInterval]:
    """``second`` − ``first`` for ``ap ap50 ap75 ar`` and ``ap_… ar_…`` of each size that has objects.

    The same pictures are drawn for both. A resample in which a size has no object says nothing about that size and is
    left out there.

    Raises:
        ValueError: if ``n_resamples`` is less than 2, ``confidence_level`` not in (0, 1), or as `average_precision`.
    """
    if n_resamples < 2 or not 0 < confidence_level < 1:
        raise ValueError(
            f"resamples is {n_resamples} (at least 2) and confidence {confidence_level} (between 0 and 1)."
        )
    weights = draw_resample_counts(len(ground_truth["images"]), n_resamples, seed)
    before, after = (
        compute_resampled_metrics(ground_truth, detections, weights, iou_type) for detections in (first, second)
    )
    edges = [50 * (1 - confidence_level), 50 * (1 + confidence_level)]
    intervals = {}
    for name, values in after.items():
        difference = values - before[name]
        if not np.isnan(difference[0]):
            low, high = np.nanpercentile(difference[1:], edges)
            intervals[name] = ConfidenceInterval(float(difference[0]), float(low), float(high), confidence_level)
    return intervals


def draw_resample_counts(num_images: int, n_resamples: int, seed: int = 0) -> NDArray[np.int64]:
    """``[1 + resamples, pictures]``: how often each picture counts. The first row is the data as they are."""
    random = np.random.default_rng(seed)
    drawn = random.multinomial(num_images, np.full(num_images, 1 / max(num_images, 1)), size=n_resamples)
    return np.concatenate([np.ones((1, num_images), np.int64), drawn])


def compute_resampled_metrics(
    ground_truth: GroundTruth,
    detections: Sequence[Detection],
    resample_counts: NDArray[np.int64],
    iou_type: IoUType = "boxes",
) -> MetricSamples:
    """The numbers of `average_precision` for each row of ``resample_counts [R, pictures]`` (pictures in the order of their
    ids), each ``[R]``.

    NaN where no object of that size is drawn.
    """
    values: MetricSamples = {}
    for size in AREA_RANGES:
        per_class = [
            _resample_class(one, resample_counts) for one in match_detections(ground_truth, detections, iou_type, size)
        ]
        precision, recall = (np.stack([pair[i] for pair in per_class], axis=-1) for i in (0, 1))  # [R, 10, classes]
        end = "" if size == "all" else f"_{size}"
        values |= {f"ap{end}": _mean_over_classes(precision), f"ar{end}": _mean_over_classes(recall)}
        if size == "all":
            values |= {"ap50": _mean_over_classes(precision[:, :1]), "ap75": _mean_over_classes(precision[:, 5:6])}
    return values


def _mean_over_classes(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The mean over IoUs and classes ``[R, T, K]`` → ``[R]``, classes that are not there (NaN) left out."""
    there = ~np.isnan(values)
    count = there.sum((1, 2))
    return np.where(count > 0, np.where(there, values, 0).sum((1, 2)) / np.maximum(count, 1), np.nan)


def _resample_class(
    matches: ClassMatches, resample_counts: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """AP and recall, each ``[R, 10]``, of one class."""
    order = np.argsort(-matches.score, kind="stable")
    image, hit, miss = matches.image_index[order], matches.true_positive[:, order], matches.false_positive[:, order]
    precision, recall = np.zeros((2, len(resample_counts), len(COCO_IOU_THRESHOLDS)))
    group = max(1, MAX_CHUNK_ELEMENTS // max(1, len(order)))
    for start in range(0, len(resample_counts), group):
        rows = slice(start, start + group)
        objects, drawn = resample_counts[rows] @ matches.num_objects, resample_counts[rows][:, image]
        for i in range(len(COCO_IOU_THRESHOLDS)):
            precision[rows, i], recall[rows, i] = weighted_average_precision(drawn, hit[i], miss[i], objects)
    return precision, recall


def weighted_average_precision(
    weights: NDArray[np.int64],
    true_positive: NDArray[np.bool_],
    false_positive: NDArray[np.bool_],
    num_objects: NDArray[np.int64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """AP (mean over 101 recalls of the precision's envelope) and the last recall, each ``[R]``; NaN where ``num_objects``
    is 0.

    ``weights [R, n]`` of detections, best first; ``true_positive [n]``, ``false_positive [n]``; ``num_objects [R]``. Precision has its peaks
    where something is found, so only those places are looked at; a place stands for the recalls that it is the first to
    reach.
    """
    right = np.cumsum(weights[:, true_positive], axis=1)
    wrong = np.cumsum(weights * false_positive, axis=1)[:, true_positive]
    known = np.where(num_objects > 0, num_objects, np.nan)
    if not right.shape[1]:
        return known * 0, known * 0
    precision = right / np.maximum(right + wrong, 1)
    envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    recall = right / np.maximum(num_objects, 1)[:, None]
    reached = np.searchsorted(RECALL_THRESHOLDS, recall, side="right")
    newly = np.diff(reached, axis=1, prepend=0)
    return (envelope * newly).sum(1) / len(RECALL_THRESHOLDS) + known * 0, recall[:, -1] + known * 0
