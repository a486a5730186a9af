"""Comparison at a common threshold, and the training of a level (the whole comparison is in test_demonstration)."""

from featlift.experiments.level_comparison import compare_at_common_threshold
from featlift.report.records import RunRecord

TRUTH = {
    "images": [{"id": i, "width": 64, "height": 64} for i in range(1, 5)],
    "categories": [{"id": 1, "name": "sign"}],
    "annotations": [
        {"id": i, "image_id": i, "category_id": 1, "bbox": [8, 8, 12, 12], "area": 144, "iscrowd": 0}
        for i in range(1, 5)
    ],
}


def found(image_id, score):
    return {"image_id": image_id, "category_id": 1, "bbox": [8, 8, 12, 12], "score": score}


def elsewhere(image_id, score):
    return found(image_id, score) | {"bbox": [40, 40, 12, 12]}


def test_both_detectors_are_judged_at_the_threshold_of_the_first():
    first = RunRecord("first", detections=[found(1, 0.9), found(2, 0.6), elsewhere(3, 0.3), elsewhere(4, 0.3)])
    second = RunRecord(
        "second", detections=[found(1, 0.9), found(2, 0.5), found(3, 0.7), elsewhere(4, 0.8), found(4, 0.1)]
    )
    comparison = compare_at_common_threshold(TRUTH, first, second)
    changes = comparison.object_changes
    assert changes.score_thresholds == (0.6, 0.6)
    assert [o.annotation_id for o in changes.with_outcome("gained")] == [3]
    assert [o.annotation_id for o in changes.with_outcome("lost")] == [2]
    assert changes.false_positives == (0, 1)
    assert (comparison.first_name, comparison.second_name) == ("first", "second")
    assert comparison.intervals["boxes"]["ap_tiny"].difference > 0
