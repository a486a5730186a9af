import numpy as np
import pytest

from featlift.data.masks import mask_to_rle
from featlift.data.object_sizes import AREA_BINS
from featlift.evaluation.coco_metrics import match_detections
from featlift.evaluation.object_changes import best_f1_threshold, compare_objects


def annotation(number, x, label=1, side=10, **changes):
    box = [x, 10, side, side]
    return {"id": number, "image_id": 1, "category_id": label, "bbox": box, "area": side**2, "iscrowd": 0, **changes}


def scene(*annotations):
    return {
        "images": [{"id": 1, "width": 400, "height": 200}],
        "annotations": list(annotations),
        "categories": [{"id": 1, "name": "sign"}, {"id": 2, "name": "lamp"}],
    }


def detection(x, score=0.9, label=1, side=10.0, width=None):
    return {"image_id": 1, "category_id": label, "bbox": [x, 10, width or side, side], "score": score}


FIVE = scene(
    annotation(1, 0), annotation(2, 50), annotation(3, 100, side=40), annotation(4, 200, label=2), annotation(5, 300)
)


def test_every_outcome():
    first = [detection(50), detection(100, side=40, width=30), detection(200, label=2), detection(300, label=2)]
    second = [detection(0), detection(100, side=40), detection(200, label=2, width=9.5)]
    changes = compare_objects(FIVE, first, second, score_thresholds=(0.5, 0.5))
    assert [(item.annotation_id, item.outcome) for item in changes.outcomes] == [
        (1, "gained"),
        (2, "lost"),
        (3, "shifted"),
        (4, "unchanged"),
        (5, "missed"),
    ]
    assert [item.iou_change for item in changes.outcomes] == pytest.approx([1, -1, 0.25, -0.05, 0])
    assert changes.false_positives == (1, 0), "the right place with the wrong class is a false positive"
    assert changes.count_by_size()["tiny"] == {"gained": 1, "lost": 1, "unchanged": 1, "missed": 1}
    assert changes.count_by_size()["medium"] == {"shifted": 1}
    assert list(changes.count_by_size()) == list(AREA_BINS)
    assert changes.count_by_category()["lamp"] == {"unchanged": 1}
    (shifted,) = changes.with_outcome("shifted")
    assert shifted.first_detection["bbox"] == [100, 10, 30, 40]
    assert shifted.box == (100, 10, 40, 40)


def test_below_the_threshold_is_not_found():
    changes = compare_objects(FIVE, [detection(0, score=0.4)], [detection(0, score=0.5)], score_thresholds=(0.5, 0.5))
    assert changes.outcomes[0].outcome == "gained"
    assert changes.outcomes[0].first_detection is None


def test_half_an_overlap_is_needed():
    changes = compare_objects(FIVE, [detection(0, width=4.9)], [detection(0, width=5.0)], score_thresholds=(0.1, 0.1))
    assert changes.outcomes[0].outcome == "gained"
    assert changes.outcomes[0].ious == (0, pytest.approx(0.5))


def test_crowds_are_ignored():
    crowd = scene(annotation(1, 0, iscrowd=1), annotation(2, 50))
    changes = compare_objects(crowd, [detection(0), detection(50)], [detection(50)], score_thresholds=(0.5, 0.5))
    assert [item.outcome for item in changes.outcomes] == ["unchanged"]
    assert changes.false_positives == (0, 0)


def test_largest_changes_come_first():
    first = [detection(0, width=6), detection(50, width=8.5)]
    changes = compare_objects(FIVE, first, [detection(0), detection(50)], score_thresholds=(0.5, 0.5))
    assert [round(item.iou_change, 2) for item in changes.with_outcome("shifted")] == [0.4, 0.15]


def test_masks_are_compared_as_masks():
    """The same box, but the first's mask covers only 60 % of the object."""
    whole, part = np.zeros((2, 200, 400), np.uint8)
    whole[10:20, 0:10] = 1
    part[10:16, 0:10] = 1
    ground_truth = scene(annotation(1, 0, segmentation=[[0, 10, 10, 10, 10, 20, 0, 20]]))
    first, second = ([detection(0) | {"segmentation": mask_to_rle(mask)}] for mask in (part, whole))
    (item,) = compare_objects(ground_truth, first, second, "masks", score_thresholds=(0.5, 0.5)).outcomes
    assert item.outcome == "shifted"
    assert item.ious == pytest.approx((0.6, 1.0))


def test_best_f1_equals_trying_every_threshold(random_ground_truth, random_detections):
    ground_truth = random_ground_truth(5, num_images=30)
    detections = random_detections(ground_truth, 5)
    objects = sum(not annotation["iscrowd"] for annotation in ground_truth["annotations"])

    def f1(threshold):
        """Matches the remaining detections again."""
        left = [d for d in detections if d["score"] >= threshold]
        class_matches = match_detections(ground_truth, left)
        tp = sum(int(matches.true_positive[0].sum()) for matches in class_matches)
        fp = sum(int(matches.false_positive[0].sum()) for matches in class_matches)
        return 2 * tp / (tp + fp + objects)

    best = best_f1_threshold(match_detections(ground_truth, detections))
    tried = {d["score"]: f1(d["score"]) for d in detections}
    assert f1(best) == pytest.approx(max(tried.values()))
    assert compare_objects(ground_truth, detections, []).score_thresholds == (best, float("inf"))


def test_equal_scores_stand_or_fall_together():
    """Three detections with one score: the threshold cannot keep the right one and drop the two wrong ones."""
    ground_truth = scene(annotation(1, 0), annotation(2, 50))
    detections = [
        detection(0, score=0.5),
        detection(150, score=0.5),
        detection(250, score=0.5),
        detection(50, score=0.4),
    ]
    assert best_f1_threshold(match_detections(ground_truth, detections)) == 0.4
