"""Confidence intervals of AP differences over several seeds: the paired bootstrap over images and seeds.

Each resample draws images (the same for both methods and all seeds) and seeds (pairs of runs), so the interval covers the variance
of the test images and of the random initialization. With few seeds (such as three) the latter is estimated poorly: treat the interval
as a lower bound of the uncertainty.
"""

from collections.abc import Sequence

import numpy as np

from featlift.evaluation.bootstrap import ConfidenceInterval, compute_resampled_metrics, draw_resample_counts
from featlift.evaluation.coco_metrics import Detection, GroundTruth, IoUType


def paired_seed_bootstrap(
    ground_truth: GroundTruth,
    first: Sequence[Sequence[Detection]],
    second: Sequence[Sequence[Detection]],
    iou_type: IoUType = "boxes",
    n_resamples: int = 1000,
    confidence_level: float = 0.95,
    seed: int = 0,
) -> dict[str, ConfidenceInterval]:
    """Bootstrap the mean over seeds of ``second[i]`` − ``first[i]``, for the metrics of `paired_bootstrap`.

    With one seed, it equals `paired_bootstrap`.

    Raises:
        ValueError: If the numbers of runs differ or are 0, or as `paired_bootstrap`.
    """
    if len(first) != len(second) or not first:
        raise ValueError(
            f"There are {len(first)} and {len(second)} runs; give at least one pair, with the same seeds for both methods."
        )
    if n_resamples < 2 or not 0 < confidence_level < 1:
        raise ValueError(
            f"n_resamples is {n_resamples} (at least 2) and confidence_level {confidence_level} (between 0 and 1)."
        )
    image_counts, seed_counts = (
        draw_resample_counts(len(ground_truth["images"]), n_resamples, seed),
        draw_resample_counts(len(first), n_resamples, seed + 1),
    )
    before, after = (
        [compute_resampled_metrics(ground_truth, run, image_counts, iou_type) for run in runs]
        for runs in (first, second)
    )
    percentiles = [50 * (1 - confidence_level), 50 * (1 + confidence_level)]
    intervals = {}
    for name in after[0]:
        differences = np.stack(
            [b[name] - a[name] for a, b in zip(before, after, strict=True)], axis=1
        )  # [1 + R, seeds]
        difference = (differences * seed_counts).sum(1) / len(first)
        if not np.isnan(difference[0]):
            low, high = np.nanpercentile(difference[1:], percentiles)
            intervals[name] = ConfidenceInterval(float(difference[0]), float(low), float(high), confidence_level)
    return intervals
