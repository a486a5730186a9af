from typing import Any

import numpy as np
import pytest

from featlift.evaluation.voc import area_average_precision, eleven_point_average_precision, voc_average_precision


def annotation(image, box, difficult=0, label=1):
    return {"image_id": image, "category_id": label, "bbox": box, "difficult": difficult}


def detection(image, box, score, label=1):
    return {"image_id": image, "category_id": label, "bbox": box, "score": score}


def make_ground_truth(*annotations):
    return {"annotations": list(annotations), "categories": [{"id": 1, "name": "car"}, {"id": 2, "name": "dog"}]}


def test_by_hand():
    """Three cars; true, false, true positive: precision 1, 1/2, 2/3 at recall 1/3, 1/3, 2/3."""
    objects = make_ground_truth(
        annotation(1, [0, 0, 10, 10]), annotation(1, [20, 0, 10, 10]), annotation(2, [0, 0, 10, 10])
    )
    detections = [
        detection(1, [0, 0, 10, 10], 0.9),
        detection(1, [50, 50, 10, 10], 0.8),
        detection(2, [1, 0, 10, 10], 0.7),
    ]
    assert voc_average_precision(objects, detections)["car"] == pytest.approx((4 * 1 + 3 * 2 / 3) / 11)


@pytest.mark.parametrize(
    ("recall", "precision", "expected"),
    [
        ([0.5, 1.0], [1.0, 1.0], 1.0),
        ([0.5], [1.0], 6 / 11),
        ([], [], 0.0),
        ([0.3, 0.3, 1.0], [1.0, 0.5, 0.6], (4 + 7 * 0.6) / 11),
    ],
)
def test_eleven_points(recall, precision, expected):
    assert eleven_point_average_precision(np.array(recall), np.array(precision)) == pytest.approx(expected)


def test_second_match_is_a_false_positive():
    detections = [detection(1, [0, 0, 10, 10], 0.9), detection(1, [0, 0, 10, 10], 0.8)]
    assert voc_average_precision(make_ground_truth(annotation(1, [0, 0, 10, 10])), detections)["car"] == 1
    late = [detection(2, [0, 0, 10, 10], 0.95), *detections]
    assert voc_average_precision(make_ground_truth(annotation(1, [0, 0, 10, 10])), late)["car"] == 0.5


def test_only_the_best_overlap_is_matched():
    """The second detection overlaps both cars with IoU ≥ 0.5, the matched one more: false positive in VOC, true positive in COCO."""
    objects = make_ground_truth(annotation(1, [0, 0, 12, 10]), annotation(1, [4, 0, 12, 10]))
    detections = [detection(1, [0, 0, 12, 10], 0.9), detection(1, [1, 0, 12, 10], 0.8)]
    assert voc_average_precision(objects, detections)["car"] == pytest.approx(6 / 11)


def test_difficult_objects_are_ignored():
    objects = make_ground_truth(annotation(1, [0, 0, 10, 10]), annotation(1, [30, 0, 10, 10], difficult=1))
    detections = [detection(1, [30, 0, 10, 10], 0.9), detection(1, [0, 0, 10, 10], 0.8)]
    assert voc_average_precision(objects, detections)["car"] == 1
    assert voc_average_precision(make_ground_truth(annotation(1, [0, 0, 9, 9], difficult=1)), detections)["car"] is None


def test_mean_over_classes_with_objects():
    objects = make_ground_truth(annotation(1, [0, 0, 10, 10]), annotation(1, [30, 0, 10, 10], label=2))
    values = voc_average_precision(objects, [detection(1, [0, 0, 10, 10], 0.9)])
    assert (values["car"], values["dog"], values["mAP"]) == (1, 0, 0.5)
    assert voc_average_precision(make_ground_truth(annotation(1, [0, 0, 10, 10])), [])["mAP"] == 0


def test_iou_of_half_is_a_match():
    objects, half = make_ground_truth(annotation(1, [0, 0, 10, 10])), [detection(1, [0, 0, 10, 5], 0.9)]
    assert voc_average_precision(objects, half)["car"] == 1
    assert voc_average_precision(objects, half, iou_threshold=0.51)["car"] == 0


def test_matches_coco_where_rules_agree():
    """One object and one detection per image: eleven-point AP by pycocotools' precision at IoU 0.5."""
    pycocotools = pytest.importorskip("pycocotools.cocoeval")
    from pycocotools.coco import COCO

    rng = np.random.default_rng(0)
    annotations, detections = [], []
    for image in range(1, 40):
        box = [10.0, 10.0, 20.0, 20.0]
        annotations.append({**annotation(image, box), "id": image, "area": 400, "iscrowd": 0})
        detections.append(detection(image, [10 + float(rng.uniform(0, 14)), 10.0, 20.0, 20.0], float(rng.random())))
    objects = {"images": [{"id": i} for i in range(1, 40)], **make_ground_truth(*annotations)}
    gt: Any = COCO()
    gt.dataset = objects
    gt.createIndex()
    run = pycocotools.COCOeval(gt, gt.loadRes(detections), "bbox")
    run.params.iouThrs, run.params.recThrs = np.array([0.5]), np.linspace(0, 1, 11)
    run.evaluate()
    run.accumulate()
    ap = voc_average_precision(objects, detections)["car"]
    assert ap == pytest.approx(run.eval["precision"][0, :, 0, 0, 2].mean(), abs=1e-9)


def test_the_area_by_hand():
    """The curve of `test_by_hand`: recall 1/3, 1/3, 2/3 with precision 1, 1/2, 2/3."""
    objects = make_ground_truth(
        annotation(1, [0, 0, 10, 10]), annotation(1, [20, 0, 10, 10]), annotation(2, [0, 0, 10, 10])
    )
    boxes = [(1, [0, 0, 10, 10]), (1, [50, 50, 10, 10]), (2, [1, 0, 10, 10])]
    detections = [detection(image, box, 0.9 - 0.1 * rank) for rank, (image, box) in enumerate(boxes)]
    values = voc_average_precision(objects, detections, interpolate=area_average_precision)
    assert values["car"] == pytest.approx(1 / 3 * 1 + 1 / 3 * 2 / 3)


def test_the_area_below_an_envelope():
    """Precision 1/2 then 2/3: the larger one holds for all smaller recalls."""
    recall, precision = np.array([0.0, 0.5, 0.5, 1.0]), np.array([0.0, 0.5, 0.4, 0.6])
    assert area_average_precision(recall, precision) == pytest.approx(0.6)
