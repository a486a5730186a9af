import numpy as np
import pytest

from featlift.evaluation.bootstrap import paired_bootstrap
from featlift.evaluation.coco_metrics import coco_metrics
from featlift.evaluation.seeds import paired_seed_bootstrap


def test_one_seed_is_the_bootstrap_over_images(random_ground_truth, random_detections):
    ground_truth = random_ground_truth(1)
    first, second = random_detections(ground_truth, 2), random_detections(ground_truth, 3, jitter=0.03)
    assert paired_seed_bootstrap(ground_truth, [first], [second], n_resamples=60) == paired_bootstrap(
        ground_truth, first, second, n_resamples=60
    )


def test_the_difference_is_the_mean_over_seeds(random_ground_truth, random_detections):
    ground_truth = random_ground_truth(1)
    first = [random_detections(ground_truth, seed) for seed in (2, 3, 4)]
    second = [random_detections(ground_truth, seed, jitter=0.02) for seed in (5, 6, 7)]
    ap = lambda runs: np.mean([coco_metrics(ground_truth, run)["ap"] for run in runs])  # noqa: E731
    interval = paired_seed_bootstrap(ground_truth, first, second, n_resamples=60)["ap"]
    assert interval.difference == pytest.approx(ap(second) - ap(first), abs=1e-9)
    assert interval.low < interval.difference < interval.high


def test_seeds_that_disagree_widen_the_interval(random_ground_truth, random_detections):
    ground_truth = random_ground_truth(1)
    good, bad = random_detections(ground_truth, 2, jitter=0.01), random_detections(ground_truth, 3, jitter=0.3)
    width = lambda interval: interval.high - interval.low  # noqa: E731
    agree = paired_seed_bootstrap(ground_truth, [good] * 2, [good] * 2, n_resamples=60)["ap"]
    differ = paired_seed_bootstrap(ground_truth, [good, bad], [bad, good], n_resamples=60)["ap"]
    assert width(agree) == 0
    assert differ.difference == pytest.approx(0)
    assert width(differ) > 0.05


def test_pairs_are_needed(random_ground_truth):
    ground_truth = random_ground_truth(1)
    with pytest.raises(ValueError, match="1 and 2 runs"):
        paired_seed_bootstrap(ground_truth, [[]], [[], []])
    with pytest.raises(ValueError, match="n_resamples is 1"):
        paired_seed_bootstrap(ground_truth, [[]], [[]], n_resamples=1)
