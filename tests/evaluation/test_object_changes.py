import numpy as np
import pytest

from featlift.evaluation.average_precision import encode, matches
from featlift.evaluation.object_changes import BINS, best_f1, bin_of, gains


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
    found = gains(FIVE, first, second, thresholds=(0.5, 0.5))
    assert [(fate.annotation_id, fate.outcome) for fate in found.fates] == [
        (1, "gained"),
        (2, "lost"),
        (3, "moved"),
        (4, "kept"),
        (5, "missed"),
    ]
    assert [fate.change for fate in found.fates] == pytest.approx([1, -1, 0.25, -0.05, 0])
    assert found.false_alarms == (1, 0), "the right place with the wrong class is a false alarm"
    assert found.by_size()["tiny"] == {"gained": 1, "lost": 1, "kept": 1, "missed": 1}
    assert found.by_size()["medium"] == {"moved": 1}
    assert list(found.by_size()) == list(BINS)
    assert found.by_category()["lamp"] == {"kept": 1}
    (moved,) = found.of("moved")
    assert moved.first["bbox"] == [100, 10, 30, 40]
    assert moved.box == (100, 10, 40, 40)


def test_below_the_threshold_is_not_found():
    found = gains(FIVE, [seen(0, score=0.4)], [seen(0, score=0.5)], thresholds=(0.5, 0.5))
    assert found.fates[0].outcome == "gained"
    assert found.fates[0].first is None


def test_half_an_overlap_is_needed():
    found = gains(FIVE, [seen(0, width=4.9)], [seen(0, width=5.0)], thresholds=(0.1, 0.1))
    assert found.fates[0].outcome == "gained"
    assert found.fates[0].iou == (0, pytest.approx(0.5))


def test_crowds_are_nobodys():
    crowd = scene(annotation(1, 0, iscrowd=1), annotation(2, 50))
    found = gains(crowd, [seen(0), seen(50)], [seen(50)], thresholds=(0.5, 0.5))
    assert [fate.outcome for fate in found.fates] == ["kept"]
    assert found.false_alarms == (0, 0)


def test_largest_changes_come_first():
    first = [seen(0, width=6), seen(50, width=8.5)]
    found = gains(FIVE, first, [seen(0), seen(50)], thresholds=(0.5, 0.5))
    assert [round(fate.change, 2) for fate in found.of("moved")] == [0.4, 0.15]


def test_masks_are_compared_as_masks():
    """The same box, but the first's mask covers only 60 % of the object."""
    whole, part = np.zeros((2, 200, 400), np.uint8)
    whole[10:20, 0:10] = 1
    part[10:16, 0:10] = 1
    truth = scene(annotation(1, 0, segmentation=[[0, 10, 10, 10, 10, 20, 0, 20]]))
    first, second = ([seen(0) | {"segmentation": encode(mask)}] for mask in (part, whole))
    (fate,) = gains(truth, first, second, "masks", thresholds=(0.5, 0.5)).fates
    assert fate.outcome == "moved"
    assert fate.iou == pytest.approx((0.6, 1.0))


def test_best_f1_equals_trying_every_threshold(random_truth, random_detections):
    truth = random_truth(5, pictures=30)
    detections = random_detections(truth, 5)
    objects = sum(not one["iscrowd"] for one in truth["annotations"])

    def f1(threshold):
        """Matching done afresh on the detections that are left."""
        left = [detection for detection in detections if detection["score"] >= threshold]
        found = matches(truth, left)
        right, wrong = (
            sum(int(one.sum()) for one in several)
            for several in zip(*((m.hit[0], m.miss[0]) for m in found), strict=True)
        )
        return 2 * right / (right + wrong + objects)

    best = best_f1(matches(truth, detections))
    tried = {detection["score"]: f1(detection["score"]) for detection in detections}
    assert f1(best) == pytest.approx(max(tried.values()))
    assert gains(truth, detections, []).thresholds == (best, float("inf"))


def test_equal_scores_stand_or_fall_together():
    """Three detections with one score: the threshold cannot keep the right one and drop the two wrong ones."""
    truth = scene(annotation(1, 0), annotation(2, 50))
    detections = [seen(0, score=0.5), seen(150, score=0.5), seen(250, score=0.5), seen(50, score=0.4)]
    assert best_f1(matches(truth, detections)) == 0.4


@pytest.mark.parametrize(
    ("side", "size"), [(15.9, "tiny"), (16, "small"), (32, "medium"), (95, "medium"), (96, "large"), (9e9, "large")]
)
def test_bins(side, size):
    assert bin_of(side**2) == size
