import numpy as np
import pytest

from featlift.evaluation.average_precision import encode_coco_rle, match_detections
from featlift.evaluation.object_changes import AREA_BINS, area_bin_of, best_f1_threshold, compare_objects


def annotation(number, x, label=1, side=10, **changes):
    box = [x, 10, side, side]
    return {"id": number, "image_id": 1, "category_id": label, "bbox": box, "area": side**2, "iscrowd": 0, **changes}


def scene(*annotations):
    return {
        "images": [{"id": 1, "width": 400, "height": 200}],
        "annotations": list(annotations),
        "categories": [{"id": 1, "name": "sign"}, {"id": 2, "name": "lamp"}],
    }


def seen(x, score=0.9, label=1, side=10.0, width=None):
    return {"image_id": 1, "category_id": label, "bbox": [x, 10, width or side, side], "score": score}


FIVE = scene(
    annotation(1, 0), annotation(2, 50), annotation(3, 100, side=40), annotation(4, 200, label=2), annotation(5, 300)
)


def test_every_fate():
    first = [seen(50), seen(100, side=40, width=30), seen(200, label=2), seen(300, label=2)]
    second = [seen(0), seen(100, side=40), seen(200, label=2, width=9.5)]
    found = compare_objects(FIVE, first, second, score_thresholds=(0.5, 0.5))
    assert [(fate.annotation_id, fate.outcome) for fate in found.outcomes] == [
        (1, "gained"),
        (2, "lost"),
        (3, "moved"),
        (4, "kept"),
        (5, "missed"),
    ]
    assert [fate.iou_change for fate in found.outcomes] == pytest.approx([1, -1, 0.25, -0.05, 0])
    assert found.false_positives == (1, 0), "the right place with the wrong class is a false alarm"
    assert found.count_by_size()["tiny"] == {"gained": 1, "lost": 1, "kept": 1, "missed": 1}
    assert found.count_by_size()["medium"] == {"moved": 1}
    assert list(found.count_by_size()) == list(AREA_BINS)
    assert found.count_by_category()["lamp"] == {"kept": 1}
    (moved,) = found.with_outcome("moved")
    assert moved.first_detection["bbox"] == [100, 10, 30, 40]
    assert moved.box == (100, 10, 40, 40)


def test_below_the_threshold_is_not_found():
    found = compare_objects(FIVE, [seen(0, score=0.4)], [seen(0, score=0.5)], score_thresholds=(0.5, 0.5))
    assert found.outcomes[0].outcome == "gained"
    assert found.outcomes[0].first_detection is None


def test_half_an_overlap_is_needed():
    found = compare_objects(FIVE, [seen(0, width=4.9)], [seen(0, width=5.0)], score_thresholds=(0.1, 0.1))
    assert found.outcomes[0].outcome == "gained"
    assert found.outcomes[0].ious == (0, pytest.approx(0.5))


def test_crowds_are_nobodys():
    crowd = scene(annotation(1, 0, iscrowd=1), annotation(2, 50))
    found = compare_objects(crowd, [seen(0), seen(50)], [seen(50)], score_thresholds=(0.5, 0.5))
    assert [fate.outcome for fate in found.outcomes] == ["kept"]
    assert found.false_positives == (0, 0)


def test_largest_changes_come_first():
    first = [seen(0, width=6), seen(50, width=8.5)]
    found = compare_objects(FIVE, first, [seen(0), seen(50)], score_thresholds=(0.5, 0.5))
    assert [round(fate.iou_change, 2) for fate in found.with_outcome("moved")] == [0.4, 0.15]


def test_masks_are_compared_as_masks():
    """The same box, but the first's mask covers only 60 % of the object."""
    whole, part = np.zeros((2, 200, 400), np.uint8)
    whole[10:20, 0:10] = 1
    part[10:16, 0:10] = 1
    truth = scene(annotation(1, 0, segmentation=[[0, 10, 10, 10, 10, 20, 0, 20]]))
    first, second = ([seen(0) | {"segmentation": encode_coco_rle(mask)}] for mask in (part, whole))
    (fate,) = compare_objects(truth, first, second, "masks", score_thresholds=(0.5, 0.5)).outcomes
    assert fate.outcome == "moved"
    assert fate.ious == pytest.approx((0.6, 1.0))


def test_best_f1_equals_trying_every_threshold(random_truth, random_detections):
    truth = random_truth(5, pictures=30)
    detections = random_detections(truth, 5)
    objects = sum(not one["iscrowd"] for one in truth["annotations"])

    def f1(threshold):
        """Matching done afresh on the detections that are left."""
        left = [detection for detection in detections if detection["score"] >= threshold]
        found = match_detections(truth, left)
        right, wrong = (
            sum(int(one.sum()) for one in several)
            for several in zip(*((m.true_positive[0], m.false_positive[0]) for m in found), strict=True)
        )
        return 2 * right / (right + wrong + objects)

    best = best_f1_threshold(match_detections(truth, detections))
    tried = {detection["score"]: f1(detection["score"]) for detection in detections}
    assert f1(best) == pytest.approx(max(tried.values()))
    assert compare_objects(truth, detections, []).score_thresholds == (best, float("inf"))


def test_equal_scores_stand_or_fall_together():
    """Three detections with one score: the threshold cannot keep the right one and drop the two wrong ones."""
    truth = scene(annotation(1, 0), annotation(2, 50))
    detections = [seen(0, score=0.5), seen(150, score=0.5), seen(250, score=0.5), seen(50, score=0.4)]
    assert best_f1_threshold(match_detections(truth, detections)) == 0.4


@pytest.mark.parametrize(
    ("side", "size"), [(15.9, "tiny"), (16, "small"), (32, "medium"), (95, "medium"), (96, "large"), (9e9, "large")]
)
def test_bins(side, size):
    assert area_bin_of(side**2) == size
