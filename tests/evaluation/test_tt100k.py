"""TT100K accuracy and recall: cases verified with the official tool (spec §4.1)."""

import itertools
import random

import pytest

from featlift.evaluation.tt100k import (
    TT100K_CLASSES,
    TT100K_SIZE_RANGES,
    DetectionCounts,
    accuracy_recall_curve,
    best_accuracy_recall_threshold,
    count_tt100k_matches,
    filter_classes,
)

IDS = {"p5": 1, "pl40": 2, "w99": 3}
SMALL, MEDIUM = TT100K_SIZE_RANGES["small"], TT100K_SIZE_RANGES["medium"]


def make_ground_truth(*signs, image=1):
    categories = [{"id": number, "name": name} for name, number in IDS.items()]
    annotations = [{"image_id": image, "category_id": IDS[name], "bbox": list(box)} for name, box in signs]
    return {"categories": categories, "annotations": annotations}


def make_detections(*boxes, image=1):
    return [{"image_id": image, "category_id": IDS[name], "bbox": list(box), "score": s} for name, box, s in boxes]


SIGN = ("p5", (0, 0, 20, 20))
SAME = (*SIGN, 0.9)
GOLDEN = {  # signs, detections, size range, (true positives, detections, signs)
    "an IoU of exactly 0.5 is not matched": ([SIGN], [("p5", (0, 0, 20, 10), 0.9)], None, (0, 1, 1)),
    "matched by IoU, not by score": (
        [SIGN],
        [("p5", (0, 0, 20, 12), 0.99), ("p5", (0, 0, 20, 20), 0.50)],
        None,
        (1, 2, 1),
    ),
    "a sign of an unevaluated class": ([("w99", SIGN[1])], [SAME], None, (0, 1, 0)),
    "a detection of an unevaluated class": ([SIGN], [("w99", SIGN[1], 0.9)], None, (0, 0, 1)),
    "sign too large, detection not": ([("p5", (0, 0, 33, 33))], [("p5", (0, 0, 31, 31), 0.9)], SMALL, (0, 0, 0)),
    "detection too large, sign not": ([("p5", (0, 0, 31, 31))], [("p5", (0, 0, 33, 33), 0.9)], SMALL, (1, 1, 1)),
    "an unmatched large detection": ([SIGN], [SAME, ("p5", (100, 100, 40, 40), 0.9)], SMALL, (1, 1, 1)),
    "the long side, not the area": ([("p5", (0, 0, 10, 40))], [("p5", (0, 0, 10, 40), 0.9)], SMALL, (0, 0, 0)),
    "the long side is medium": ([("p5", (0, 0, 10, 40))], [("p5", (0, 0, 10, 40), 0.9)], MEDIUM, (1, 1, 1)),
    "below the score threshold": ([SIGN], [("p5", SIGN[1], 0.3)], None, (0, 0, 1)),
    "another class": ([SIGN], [("pl40", SIGN[1], 0.9)], None, (0, 1, 1)),
    "32 is not below 32": ([("p5", (0, 0, 32, 32))], [("p5", (0, 0, 32, 32), 0.9)], SMALL, (0, 0, 0)),
}


@pytest.mark.parametrize("case", GOLDEN)
def test_golden(case):
    signs, boxes, sizes, expected = GOLDEN[case]
    counts = count_tt100k_matches(
        make_ground_truth(*signs), make_detections(*boxes), 0.5, sizes or TT100K_SIZE_RANGES["all"]
    )
    assert (counts.true_positives, counts.num_detections, counts.num_objects) == expected


def test_images_are_matched_separately_and_pooled():
    first, second = make_ground_truth(SIGN), make_ground_truth(SIGN, image=2)
    both = {**first, "annotations": first["annotations"] + second["annotations"]}
    assert count_tt100k_matches(both, make_detections(SAME) + make_detections(SAME, SAME)) == DetectionCounts(1, 3, 2)
    assert count_tt100k_matches(both, make_detections(SAME) + make_detections(SAME, SAME, image=2)) == DetectionCounts(
        2, 3, 2
    )


def test_numbers_by_hand():
    count = DetectionCounts(true_positives=3, num_detections=4, num_objects=6)
    assert (count.accuracy, count.recall) == (0.75, 0.5)
    assert count.f1 == pytest.approx(2 * 0.75 * 0.5 / 1.25)
    assert (DetectionCounts().accuracy, DetectionCounts().recall) == (1, 1)
    assert DetectionCounts(0, 1, 1).f1 == 0


def test_there_are_45_classes():
    assert len(set(TT100K_CLASSES)) == 45
    assert set(IDS) - set(TT100K_CLASSES) == {"w99"}


def test_size_ranges_partition_all():
    """Each sign, and each detection, counts in exactly one of small, medium and large."""
    rng = random.Random(0)
    box = lambda: (rng.randrange(150), rng.randrange(150), rng.randrange(4, 150), rng.randrange(4, 150))  # noqa: E731
    signs = [(rng.choice(list(IDS)), box()) for _ in range(30)]
    boxes = [(rng.choice(list(IDS)), rng.choice([box(), rng.choice(signs)[1]]), rng.random()) for _ in range(60)]
    parts = [
        count_tt100k_matches(make_ground_truth(*signs), make_detections(*boxes), 0.3, TT100K_SIZE_RANGES[name])
        for name in ("small", "medium", "large")
    ]
    whole = count_tt100k_matches(make_ground_truth(*signs), make_detections(*boxes), 0.3)
    assert sum(parts, DetectionCounts()) == whole
    assert whole.true_positives > 0


def test_recall_decreases_and_the_best_threshold():
    signs = [("p5", (30 * i, 0, 20, 20)) for i in range(8)]
    boxes = [("p5", (30 * i, 0, 20, 20), 0.95 - 0.1 * i) for i in range(8)]
    boxes += [("pl40", (30 * i, 300, 20, 20), 0.3 - 0.02 * i) for i in range(8)]
    points = accuracy_recall_curve(make_ground_truth(*signs), make_detections(*boxes), [0.1 * i for i in range(1, 10)])
    assert set(points) == set(TT100K_SIZE_RANGES)
    recalls = [count.recall for _, count in points["all"]]
    assert all(a >= b for a, b in itertools.pairwise(recalls))
    threshold = best_accuracy_recall_threshold(points["all"])
    assert max(count.f1 for _, count in points["all"]) == dict(points["all"])[threshold].f1
    with pytest.raises(ValueError, match="no points"):
        best_accuracy_recall_threshold([])


def test_filter_classes():
    both = make_ground_truth(SIGN, ("w99", (1, 1, 5, 5)))
    ground_truth, detections = filter_classes(both, make_detections(SAME, ("w99", (1, 1, 5, 5), 0.4)))
    assert [c["name"] for c in ground_truth["categories"]] == ["p5", "pl40"]
    assert [a["category_id"] for a in ground_truth["annotations"]] == [1]
    assert detections == make_detections(SAME)
