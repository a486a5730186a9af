"""How sure is a difference that was measured with several seeds? The paired bootstrap over pictures and over seeds.

A run tells how a method did with one draw of its starting weights. Here each resample draws pictures (the same for both methods and all
seeds) and seeds (pairs of runs), so that the interval holds both sources of chance. With three seeds the second is itself badly known:
read the interval as the least uncertainty there is.
"""

from collections.abc import Sequence

import numpy as np

from featlift.evaluation.average_precision import Detection, GroundTruth, IoUType
from featlift.evaluation.bootstrap import ConfidenceInterval, compute_resampled_metrics, draw_resample_counts


def paired_seed_bootstrap(
    ground_truth: GroundTruth,
    first: Sequence[Sequence[Detection]],
    second: Sequence[Sequence[Detection]],
    iou_type: IoUType = "boxes",
    n_resamples: int = 1000,
    confidence_level: float = 0.95,
    seed: int = 0,
) -> dict[str, ConfidenceInterval]:
    """The mean over seeds of ``second[i]`` − ``first[i]``, for the numbers that `bootstrap.paired_bootstrap` gives; with one seed it is the same.

    Raises:
        ValueError: if there are not equally many runs of both, or as `bootstrap.paired_bootstrap`.
    """
    if len(first) != len(second) or not first:
        raise ValueError(
            f"There are {len(first)} and {len(second)} runs; pairs of equal seeds are needed, at least one."
        )
    if n_resamples < 2 or not 0 < confidence_level < 1:
        raise ValueError(
            f"resamples is {n_resamples} (at least 2) and confidence {confidence_level} (between 0 and 1)."
        )
    pictures, seeds = (
        draw_resample_counts(len(ground_truth["images"]), n_resamples, seed),
        draw_resample_counts(len(first), n_resamples, seed + 1),
    )
    before, after = (
        [compute_resampled_metrics(ground_truth, run, pictures, iou_type) for run in runs] for runs in (first, second)
    )
    edges = [50 * (1 - confidence_level), 50 * (1 + confidence_level)]
    intervals = {}
    for name in after[0]:
        apart = np.stack([b[name] - a[name] for a, b in zip(before, after, strict=True)], axis=1)  # [1 + R, seeds]
        difference = (apart * seeds).sum(1) / len(first)
        if not np.isnan(difference[0]):
            low, high = np.nanpercentile(difference[1:], edges)
            intervals[name] = ConfidenceInterval(float(difference[0]), float(low), float(high), confidence_level)
    return intervals
