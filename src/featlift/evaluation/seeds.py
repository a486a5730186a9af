"""How sure is a difference that was measured with several seeds? The paired bootstrap over pictures and over seeds.

A run tells how a method did with one draw of its starting weights. Here each resample draws pictures (the same for both methods and all
seeds) and seeds (pairs of runs), so that the interval holds both sources of chance. With three seeds the second is itself badly known:
read the interval as the least uncertainty there is.
"""

from collections.abc import Sequence

import numpy as np

from featlift.evaluation.average_precision import Detection, GroundTruth, Kind
from featlift.evaluation.bootstrap import Interval, draws, resampled


def paired(
    truth: GroundTruth,
    first: Sequence[Sequence[Detection]],
    second: Sequence[Sequence[Detection]],
    kind: Kind = "boxes",
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> dict[str, Interval]:
    """The mean over seeds of ``second[i]`` − ``first[i]``, for the numbers that `bootstrap.bootstrap` gives; with one seed it is the same.

    Raises:
        ValueError: if there are not equally many runs of both, or as `bootstrap.bootstrap`.
    """
    if len(first) != len(second) or not first:
        raise ValueError(
            f"There are {len(first)} and {len(second)} runs; pairs of equal seeds are needed, at least one."
        )
    if resamples < 2 or not 0 < confidence < 1:
        raise ValueError(f"resamples is {resamples} (at least 2) and confidence {confidence} (between 0 and 1).")
    pictures, seeds = draws(len(truth["images"]), resamples, seed), draws(len(first), resamples, seed + 1)
    before, after = ([resampled(truth, run, pictures, kind) for run in runs] for runs in (first, second))
    edges = [50 * (1 - confidence), 50 * (1 + confidence)]
    intervals = {}
    for name in after[0]:
        apart = np.stack([b[name] - a[name] for a, b in zip(before, after, strict=True)], axis=1)  # [1 + R, seeds]
        difference = (apart * seeds).sum(1) / len(first)
        if not np.isnan(difference[0]):
            low, high = np.nanpercentile(difference[1:], edges)
            intervals[name] = Interval(float(difference[0]), float(low), float(high), confidence)
    return intervals
