import pytest

from featlift.evaluation.average_precision import coco_metrics
from featlift.evaluation.comparison import compare_detections
from featlift.evaluation.object_changes import compare_objects


def test_a_comparison_says_how_much_and_which(random_truth, random_detections):
    truth = random_truth(3)
    first, second = random_detections(truth, 1), random_detections(truth, 2)
    both = compare_detections(truth, first, second, ("nearest", "afi"), iou_types=("boxes", "masks"), n_resamples=10)
    assert (both.first_name, both.second_name) == ("nearest", "afi")
    for kind in ("boxes", "masks"):
        difference = coco_metrics(truth, second, kind)["ap"] - coco_metrics(truth, first, kind)["ap"]
        assert both.intervals[kind]["ap"].difference == pytest.approx(difference)
    assert both.object_changes == compare_objects(truth, first, second)


def test_swapping_turns_gains_into_losses(random_truth, random_detections):
    truth = random_truth(3)
    first, second = random_detections(truth, 1), random_detections(truth, 2)
    forth, back = (
        compare_detections(truth, first, second, n_resamples=10),
        compare_detections(truth, second, first, n_resamples=10),
    )
    ids = [
        {fate.annotation_id for fate in one}
        for one in (forth.object_changes.with_outcome("gained"), back.object_changes.with_outcome("lost"))
    ]
    assert ids[0] == ids[1] != set()
    assert forth.intervals["boxes"]["ap"].difference == pytest.approx(-back.intervals["boxes"]["ap"].difference)
