import pytest

from featlift.evaluation.coco_metrics import coco_metrics
from featlift.evaluation.comparison import compare_detections
from featlift.evaluation.object_changes import compare_objects


def test_intervals_and_object_changes(random_ground_truth, random_detections):
    ground_truth = random_ground_truth(3)
    first, second = random_detections(ground_truth, 1), random_detections(ground_truth, 2)
    comparison = compare_detections(
        ground_truth, first, second, ("nearest", "afi"), iou_types=("boxes", "masks"), n_resamples=10
    )
    assert (comparison.first_name, comparison.second_name) == ("nearest", "afi")
    for kind in ("boxes", "masks"):
        difference = coco_metrics(ground_truth, second, kind)["ap"] - coco_metrics(ground_truth, first, kind)["ap"]
        assert comparison.intervals[kind]["ap"].difference == pytest.approx(difference)
    assert comparison.object_changes == compare_objects(ground_truth, first, second)


def test_swapping_turns_gains_into_losses(random_ground_truth, random_detections):
    ground_truth = random_ground_truth(3)
    first, second = random_detections(ground_truth, 1), random_detections(ground_truth, 2)
    forward, backward = (
        compare_detections(ground_truth, first, second, n_resamples=10),
        compare_detections(ground_truth, second, first, n_resamples=10),
    )
    ids = [
        {item.annotation_id for item in outcomes}
        for outcomes in (forward.object_changes.with_outcome("gained"), backward.object_changes.with_outcome("lost"))
    ]
    assert ids[0] == ids[1] != set()
    assert forward.intervals["boxes"]["ap"].difference == pytest.approx(-backward.intervals["boxes"]["ap"].difference)
