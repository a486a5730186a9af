import time

import numpy as np
import pytest

from featlift.evaluation.bootstrap import (
    compute_resampled_metrics,
    draw_resample_counts,
    paired_bootstrap,
    weighted_average_precision,
)
from featlift.evaluation.coco_metrics import coco_metrics


def repeat_images(ground_truth, detections, weights):
    """The dataset with image i repeated ``weights[i]`` times, under new ids."""
    images, objects, results = [], [], []
    for image, weight in zip(sorted(ground_truth["images"], key=lambda image: image["id"]), weights, strict=True):
        for _ in range(weight):
            new = {"image_id": len(images) + 1}
            images.append(image | {"id": new["image_id"]})
            for annotation in ground_truth["annotations"]:
                if annotation["image_id"] == image["id"]:
                    objects.append(annotation | new | {"id": len(objects) + 1})
            results += [detection | new for detection in detections if detection["image_id"] == image["id"]]
    return ground_truth | {"images": images, "annotations": objects}, results


@pytest.mark.parametrize("kind", ["boxes", "masks"])
@pytest.mark.parametrize("seed", range(3))
def test_weights_of_one_give_cocos_numbers(random_ground_truth, random_detections, kind, seed):
    ground_truth = random_ground_truth(seed)
    detections = random_detections(ground_truth, seed)
    samples = compute_resampled_metrics(
        ground_truth, detections, draw_resample_counts(len(ground_truth["images"]), 0), kind
    )
    expected_metrics = coco_metrics(ground_truth, detections, kind)
    del expected_metrics["per_class"]
    assert samples.keys() == expected_metrics.keys()
    for name, value in expected_metrics.items():
        assert samples[name][0] == pytest.approx(np.nan if value is None else value, abs=1e-6, nan_ok=True), name


@pytest.mark.parametrize("seed", range(3))
def test_weights_equal_repeated_images(random_ground_truth, random_detections, seed):
    ground_truth = random_ground_truth(seed)
    detections = random_detections(ground_truth, seed)
    weights = draw_resample_counts(len(ground_truth["images"]), 4, seed)
    samples = compute_resampled_metrics(ground_truth, detections, weights)
    for row in range(1, 5):
        expected_metrics = coco_metrics(*repeat_images(ground_truth, detections, weights[row]))
        for name, values in samples.items():
            expected = np.nan if expected_metrics[name] is None else expected_metrics[name]
            assert values[row] == pytest.approx(expected, abs=1e-6, nan_ok=True), name


def test_average_precision_by_hand():
    """True, false, true positive on two objects: precision 1 up to recall ½ (51 of 101 recalls), then 2/3."""
    tp, fp = np.array([True, False, True]), np.array([False, True, False])
    precision, recall = weighted_average_precision(np.ones((1, 3), int), tp, fp, np.array([2]))
    assert precision[0] == pytest.approx((51 + 50 * 2 / 3) / 101)
    assert recall[0] == 1
    assert np.isnan(weighted_average_precision(np.ones((1, 3), int), tp, fp, np.array([0]))[0])


def test_the_same_detections_differ_by_nothing(random_ground_truth, random_detections):
    ground_truth = random_ground_truth(0)
    detections = random_detections(ground_truth, 0)
    interval = paired_bootstrap(ground_truth, detections, detections, n_resamples=20)["ap"]
    assert (interval.difference, interval.low, interval.high) == (0, 0, 0)
    assert not interval.is_significant


def test_a_better_detector_is_significant(random_ground_truth, random_detections):
    ground_truth = random_ground_truth(1, num_images=40)
    poor = random_detections(ground_truth, 1, jitter=0.15, recall=0.4)
    good = random_detections(ground_truth, 2, jitter=0.02, recall=1.0)
    intervals = paired_bootstrap(ground_truth, poor, good, n_resamples=200)
    ap = intervals["ap"]
    assert ap.low < ap.difference < ap.high
    assert ap.is_significant
    assert ap.difference == pytest.approx(
        coco_metrics(ground_truth, good)["ap"] - coco_metrics(ground_truth, poor)["ap"]
    )
    assert intervals == paired_bootstrap(ground_truth, poor, good, n_resamples=200), "seeded"


def test_the_interval_covers_a_mean_as_theory_says():
    """100 images of one object; the second detects 50 that the first misses: AR differs by ½ ± 1.96·√(½·½/100)."""
    images = [{"id": i, "width": 50, "height": 50} for i in range(1, 101)]
    objects = [
        {"id": i, "image_id": i, "category_id": 1, "bbox": [5, 5, 10, 10], "area": 100, "iscrowd": 0}
        for i in range(1, 101)
    ]
    ground_truth = {"images": images, "annotations": objects, "categories": [{"id": 1, "name": "a"}]}
    detections = [{"image_id": i, "category_id": 1, "bbox": [5, 5, 10, 10], "score": 0.5} for i in range(1, 51)]
    interval = paired_bootstrap(ground_truth, [], detections, n_resamples=2000)["ar"]
    assert interval.difference == pytest.approx(0.5)
    assert interval.low == pytest.approx(0.5 - 1.96 * 0.05, abs=0.015)
    assert interval.high == pytest.approx(0.5 + 1.96 * 0.05, abs=0.015)


def test_sizes_without_objects_have_no_interval(random_ground_truth):
    ground_truth = random_ground_truth(0)
    ground_truth["annotations"] = [
        annotation for annotation in ground_truth["annotations"] if annotation["area"] < 32**2
    ]
    intervals = paired_bootstrap(ground_truth, [], [], n_resamples=5)
    assert "ap_small" in intervals
    assert "ap_large" not in intervals


@pytest.mark.parametrize(("resamples", "confidence"), [(1, 0.95), (10, 1.0)])
def test_error_messages(random_ground_truth, resamples, confidence):
    with pytest.raises(ValueError, match="at least 2"):
        paired_bootstrap(random_ground_truth(0), [], [], n_resamples=resamples, confidence_level=confidence)


def test_a_thousand_resamples_are_quick(random_ground_truth, random_detections):
    ground_truth = random_ground_truth(0, num_images=100, classes=4)
    first, second = random_detections(ground_truth, 1), random_detections(ground_truth, 2)
    start = time.process_time()
    paired_bootstrap(ground_truth, first, second, n_resamples=1000)
    assert time.process_time() - start < 10
