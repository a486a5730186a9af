"""Confidence intervals of AP differences by the paired bootstrap over images (Efron & Tibshirani, 1993, Ch. 8 and 13).

Detections are matched with objects within each image, so matching is done once. A resample assigns a count to each
image, and AP is accumulated again from the matches with these counts as weights. The result equals that of COCO's code
on the repeated images (up to the order of detections with equal scores).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from featlift.evaluation.coco_metrics import (
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
"""Maximum number of (resample, detection) pairs processed at once: 16 MB per array."""

MetricSamples = dict[str, NDArray[np.float64]]


@dataclass(frozen=True)
class ConfidenceInterval:
    """Difference of a metric, second detector − first, with its percentile interval."""

    difference: float
    low: float
    high: float
    confidence_level: float

    @property
    def is_significant(self) -> bool:
        """Whether the interval excludes zero."""
        return self.low > 0 or self.high < 0

    @property
    def percent_text(self) -> str:
        """Difference and interval in percentage points: "+1.2 [+0.2, +2.6]"."""
        return f"{100 * self.difference:+.1f} [{100 * self.low:+.1f}, {100 * self.high:+.1f}]"


def paired_bootstrap(
    ground_truth: GroundTruth,
    first: Sequence[Detection],
    second: Sequence[Detection],
    iou_type: IoUType = "boxes",
    n_resamples: int = 1000,
    confidence_level: float = 0.95,
    seed: int = 0,
    max_detections: int = 100,
) -> dict[str, ConfidenceInterval]:
    """Bootstrap ``second`` − ``first`` for ``ap ap50 ap75 ar`` and the ``ap_… ar_…`` of each size that has objects.

    The same resamples are used for both. For each size, resamples without an object of that size are excluded.

    Raises:
        ValueError: If ``n_resamples`` is less than 2, ``confidence_level`` is not in (0, 1), or as `coco_metrics`.
    """
    if n_resamples < 2 or not 0 < confidence_level < 1:
        raise ValueError(
            f"n_resamples is {n_resamples} (at least 2) and confidence_level {confidence_level} (between 0 and 1)."
        )
    resample_counts = draw_resample_counts(len(ground_truth["images"]), n_resamples, seed)
    first_samples, second_samples = (
        compute_resampled_metrics(ground_truth, detections, resample_counts, iou_type, max_detections)
        for detections in (first, second)
    )
    percentiles = [50 * (1 - confidence_level), 50 * (1 + confidence_level)]
    intervals = {}
    for name, values in second_samples.items():
        difference = values - first_samples[name]
        if not np.isnan(difference[0]):
            low, high = np.nanpercentile(difference[1:], percentiles)
            intervals[name] = ConfidenceInterval(float(difference[0]), float(low), float(high), confidence_level)
    return intervals


def draw_resample_counts(num_images: int, n_resamples: int, seed: int = 0) -> NDArray[np.int64]:
    """Draw ``[1 + n_resamples, num_images]`` counts of each image. The first row is all ones, the original dataset."""
    rng = np.random.default_rng(seed)
    counts = rng.multinomial(num_images, np.full(num_images, 1 / max(num_images, 1)), size=n_resamples)
    return np.concatenate([np.ones((1, num_images), np.int64), counts])


def compute_resampled_metrics(
    ground_truth: GroundTruth,
    detections: Sequence[Detection],
    resample_counts: NDArray[np.int64],
    iou_type: IoUType = "boxes",
    max_detections: int = 100,
) -> MetricSamples:
    """Compute the values of `coco_metrics` for each row of ``resample_counts [R, images]`` (images sorted by id), each ``[R]``.

    NaN if a resample has no object of that size.
    """
    samples: MetricSamples = {}
    for size in AREA_RANGES:
        per_class = [
            _resample_class(matches, resample_counts)
            for matches in match_detections(ground_truth, detections, iou_type, size, max_detections)
        ]
        precision, recall = (np.stack([pair[i] for pair in per_class], axis=-1) for i in (0, 1))  # [R, 10, classes]
        suffix = "" if size == "all" else f"_{size}"
        samples |= {f"ap{suffix}": _mean_over_classes(precision), f"ar{suffix}": _mean_over_classes(recall)}
        if size == "all":
            samples |= {"ap50": _mean_over_classes(precision[:, :1]), "ap75": _mean_over_classes(precision[:, 5:6])}
    return samples


def _mean_over_classes(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Average ``[R, T, K]`` over IoU thresholds and classes to ``[R]``, ignoring NaN (classes without objects)."""
    valid = ~np.isnan(values)
    count = valid.sum((1, 2))
    return np.where(count > 0, np.where(valid, values, 0).sum((1, 2)) / np.maximum(count, 1), np.nan)


def _resample_class(
    matches: ClassMatches, resample_counts: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Compute AP and recall, each ``[R, 10]``, of one class."""
    order = np.argsort(-matches.score, kind="stable")
    image_index, tp, fp = matches.image_index[order], matches.true_positive[:, order], matches.false_positive[:, order]
    precision, recall = np.zeros((2, len(resample_counts), len(COCO_IOU_THRESHOLDS)))
    chunk_size = max(1, MAX_CHUNK_ELEMENTS // max(1, len(order)))
    for start in range(0, len(resample_counts), chunk_size):
        rows = slice(start, start + chunk_size)
        counts = resample_counts[rows]
        num_objects, weights = counts @ matches.num_objects, counts.take(image_index, axis=1)
        for i in range(len(COCO_IOU_THRESHOLDS)):
            precision[rows, i], recall[rows, i] = weighted_average_precision(weights, tp[i], fp[i], num_objects)
    return precision, recall


def weighted_average_precision(
    weights: NDArray[np.int64],
    true_positive: NDArray[np.bool_],
    false_positive: NDArray[np.bool_],
    num_objects: NDArray[np.int64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Compute AP (the mean of the precision envelope over 101 recall thresholds) and the final recall, each ``[R]``.

    ``weights [R, n]`` are those of the detections in descending score order, ``true_positive [n]`` and ``false_positive [n]`` their
    flags; ``num_objects [R]``; the result is NaN where ``num_objects`` is 0. Precision peaks at true positives, so it is evaluated only
    there; each true positive contributes the recall thresholds that it is the first to reach.
    """
    zero_or_nan = np.where(num_objects > 0, 0.0, np.nan)
    if not true_positive.any():
        return zero_or_nan, zero_or_nan
    counted = true_positive | false_positive
    positions = true_positive.nonzero()[0]
    tp = _cumulative_sum(weights.take(positions, axis=1))
    all_positives = _cumulative_sum(weights if counted.all() else weights * counted).take(positions, axis=1)
    precision = tp / np.maximum(all_positives, 1)
    envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    recall = tp / np.maximum(num_objects, 1)[:, None]
    newly_reached = np.diff(_count_reached_thresholds(recall), axis=1, prepend=0)
    return (envelope * newly_reached).sum(1) / len(RECALL_THRESHOLDS) + zero_or_nan, recall[:, -1] + zero_or_nan


def _cumulative_sum(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return ``np.cumsum(counts, axis=1)``, by PyTorch, which is four times as fast."""
    return torch.from_numpy(counts).cumsum(1).numpy()


def _count_reached_thresholds(recall: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return ``np.searchsorted(RECALL_THRESHOLDS, recall, side="right")`` : rounded down, then compared."""
    count = (np.minimum(recall, 1) * 100).astype(np.int64)
    bounds = np.append(RECALL_THRESHOLDS, np.inf)
    count += bounds[count] <= recall
    return count + (bounds[count] <= recall)
