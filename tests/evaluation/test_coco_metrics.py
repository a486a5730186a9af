import contextlib
import io
from copy import deepcopy

import numpy as np
import pytest

from featlift.data.masks import mask_to_rle
from featlift.evaluation.coco_metrics import (
    AREA_RANGES,
    COCO_IOU_THRESHOLDS,
    coco_metrics,
    coco_metrics_at_iou50,
    has_masks,
    match_detections,
)


def pycocotools_arrays(ground_truth, detections, kind):
    """Precision and recall by pycocotools, at most 100 detections."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        objects = COCO()
        objects.dataset = deepcopy(ground_truth)
        objects.createIndex()
        field = "bbox" if kind == "boxes" else "segmentation"
        names = ("image_id", "category_id", "score", field)
        results = objects.loadRes([{name: deepcopy(d[name]) for name in names} for d in detections])
        evaluator = COCOeval(objects, results, "bbox" if kind == "boxes" else "segm")
        evaluator.params.areaRng = [list(AREA_RANGES[size]) for size in AREA_RANGES]
        evaluator.params.areaRngLbl = list(AREA_RANGES)
        evaluator.evaluate()
        evaluator.accumulate()
    return evaluator.eval["precision"][..., -1], evaluator.eval["recall"][..., -1]


def mean(values):
    return values[values > -1].mean() if (values > -1).any() else None


def pycocotools_metrics(ground_truth, detections, kind):
    """The metrics of coco_metrics, by pycocotools."""
    precision, recall = pycocotools_arrays(ground_truth, detections, kind)
    expected = {"ap": mean(precision[..., 0]), "ap50": mean(precision[0, ..., 0]), "ap75": mean(precision[5, ..., 0])}
    for i, size in enumerate(AREA_RANGES):
        end = "" if size == "all" else f"_{size}"
        expected |= {f"ap{end}": mean(precision[..., i]), f"ar{end}": mean(recall[..., i])}
    expected |= {category["name"]: mean(precision[:, :, k, 0]) for k, category in enumerate(ground_truth["categories"])}
    return expected


def one_object(**changes):
    annotation = {
        "id": 1,
        "image_id": 1,
        "category_id": 1,
        "bbox": [10, 10, 10, 10],
        "area": 100,
        "iscrowd": 0,
        **changes,
    }
    return {
        "images": [{"id": 1, "width": 100, "height": 100}, {"id": 2, "width": 100, "height": 100}],
        "annotations": [annotation],
        "categories": [{"id": 1, "name": "sign"}, {"id": 2, "name": "unused"}],
    }


def box(x, y, width, height, score, image_id=1, label=1):
    return {"image_id": image_id, "category_id": label, "bbox": [x, y, width, height], "score": score}


@pytest.mark.parametrize("kind", ["boxes", "masks"])
@pytest.mark.parametrize("seed", range(4))
def test_equals_pycocotools(random_ground_truth, random_detections, kind, seed):
    ground_truth = random_ground_truth(seed)
    detections = random_detections(ground_truth, seed)
    measured = coco_metrics(ground_truth, detections, kind)
    expected = pycocotools_metrics(ground_truth, detections, kind)
    measured |= measured.pop("per_class")
    assert measured.keys() == expected.keys()
    assert measured["ap"] > 0.1
    for name, value in expected.items():
        assert measured[name] == (None if value is None else pytest.approx(value, abs=1e-9)), name


def test_ap_computed_by_hand():
    """IoU 0.8 (10x8 inside 10x10): matched at 0.50 … 0.80, seven of ten thresholds; a false positive of higher score halves precision."""
    detections = [box(10, 10, 10, 8, score=0.5)]
    assert coco_metrics(one_object(), detections)["ap"] == pytest.approx(0.7)
    with_false_positive = coco_metrics(one_object(), [*detections, box(60, 60, 10, 10, score=0.9)])
    assert with_false_positive["ap"] == pytest.approx(0.35)
    assert (with_false_positive["ap50"], with_false_positive["ap75"]) == (pytest.approx(0.5), pytest.approx(0.5))
    assert with_false_positive["ar"] == pytest.approx(0.7)
    assert with_false_positive["per_class"] == {"sign": pytest.approx(0.35), "unused": None}


def test_tiny_lies_inside_small():
    metrics = coco_metrics(one_object(), [box(10, 10, 10, 10, score=0.5)])
    assert (metrics["ap_tiny"], metrics["ap_small"]) == (pytest.approx(1), pytest.approx(1))
    assert metrics["ap_medium"] is metrics["ap_large"] is metrics["ar_large"] is None
    larger = coco_metrics(one_object(area=20**2), [])
    assert larger["ap_tiny"] is None
    assert larger["ap_small"] == 0


@pytest.mark.parametrize("kind", ["boxes", "masks"])
def test_no_detections(random_ground_truth, kind):
    metrics = coco_metrics(random_ground_truth(0), [], kind)
    assert metrics["ap"] == metrics["ar"] == 0


def test_no_objects():
    ground_truth = one_object() | {"annotations": []}
    assert coco_metrics(ground_truth, [])["ap"] is None
    assert coco_metrics(ground_truth, [box(1, 1, 5, 5, 0.9)])["ap"] is None


def test_a_mask_has_its_own_size_even_with_a_box(random_ground_truth):
    """A thin mask in a wide box: the area of the mask decides whether a false positive is 'tiny'."""
    ground_truth = one_object(bbox=[10, 10, 10, 10], segmentation=[[10, 10, 20, 10, 20, 20, 10, 20]])
    thin = np.zeros((100, 100), np.uint8)
    thin[40, 30:90] = 1
    thin[50:52, 30:90] = 1
    square = np.zeros((100, 100), np.uint8)
    square[10:20, 10:20] = 1
    detections = [
        box(10, 10, 10, 10, 0.5) | {"segmentation": mask_to_rle(square)},
        box(30, 40, 60, 30, 0.9) | {"segmentation": mask_to_rle(thin)},
    ]
    assert coco_metrics(ground_truth, detections, "masks")["ap_tiny"] == pytest.approx(0.5)
    assert coco_metrics(ground_truth, detections, "boxes")["ap_tiny"] == pytest.approx(1)


def test_only_the_highest_scores_count():
    """At most two detections per image and class: the third, which is correct, is ignored."""
    detections = [box(60, 60, 9, 9, 0.9), box(30, 60, 9, 9, 0.8), box(10, 10, 10, 10, 0.7)]
    assert coco_metrics(one_object(), detections, max_detections=2)["ap"] == 0
    assert coco_metrics(one_object(), detections, max_detections=3)["ap"] == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("detection", "kind", "message"),
    [
        (box(0, 0, 5, 5, 0.5, image_id=77), "boxes", "image 77"),
        (box(0, 0, 5, 5, 0.5, label=3), "boxes", "class 3.*1 sign, 2 unused"),
        (box(0, 0, 5, 5, 0.5), "masks", "no masks"),
        (box(0, 0, 5, 5, 0.5), "keypoints", "boxes, masks"),
    ],
)
def test_error_messages(detection, kind, message):
    with pytest.raises(ValueError, match=message):
        coco_metrics(one_object(), [detection], kind)


def test_detections_without_masks_are_named():
    ground_truth = one_object(segmentation=[[10, 10, 20, 10, 20, 20, 10, 20]])
    with pytest.raises(ValueError, match="Detection 0 has no 'segmentation'"):
        coco_metrics(ground_truth, [box(0, 0, 5, 5, 0.5)], "masks")


def test_masks_are_ranked_by_their_own_scores(random_ground_truth, random_detections):
    """CenterMask: box scores rank boxes, mask scores rank masks."""
    ground_truth = random_ground_truth(3)
    box_scores = random_detections(ground_truth, 4)
    both = [{**detection, "mask_score": 1 - detection["score"]} for detection in box_scores]
    inverted = [{**detection, "score": 1 - detection["score"]} for detection in box_scores]
    assert coco_metrics(ground_truth, both, "boxes") == coco_metrics(ground_truth, box_scores, "boxes")
    assert coco_metrics(ground_truth, both, "masks") == coco_metrics(ground_truth, inverted, "masks")
    assert coco_metrics(ground_truth, both, "masks")["ap"] != coco_metrics(ground_truth, box_scores, "masks")["ap"]


def test_has_masks(random_ground_truth):
    assert has_masks(random_ground_truth(0))
    assert not has_masks(one_object())
    assert not has_masks(one_object(segmentation=[]))


def test_matches_of_each_class():
    detections = [box(10, 10, 10, 8, 0.5), box(60, 60, 10, 10, 0.9), box(3, 3, 4, 4, 0.4, image_id=2, label=2)]
    sign, other = match_detections(one_object(id=41), detections)
    assert sign.detection_index.tolist() == [1, 0]
    assert sign.annotation_id.tolist() == [-1, 41]
    assert sign.true_positive[:, 1].tolist() == [iou <= 0.801 for iou in COCO_IOU_THRESHOLDS]
    assert sign.false_positive[:, 0].all()
    assert sign.num_objects.tolist() == [1, 0]
    assert other.image_index.tolist() == [1]
    assert other.num_objects.sum() == 0
    (tiny, _) = match_detections(one_object(area=5000), detections, area_range="tiny")
    assert tiny.num_objects.sum() == 0
    assert not tiny.true_positive.any()


def test_an_annotation_with_id_0_is_found():
    """pycocotools treats the id 0 as no match."""
    detections = [box(10, 10, 10, 10, 0.5)]
    assert coco_metrics(one_object(id=0), detections)["ap"] == pytest.approx(1)
    assert match_detections(one_object(id=0), detections)[0].annotation_id.tolist() == [0]


@pytest.mark.parametrize("kind", ["boxes", "masks"])
def test_metrics_at_iou50_equal_pycocotools(random_ground_truth, random_detections, kind):
    ground_truth = random_ground_truth(0)
    detections = random_detections(ground_truth, 0)
    measured, (precision, recall) = (
        coco_metrics_at_iou50(ground_truth, detections, kind),
        pycocotools_arrays(ground_truth, detections, kind),
    )
    suffixes = ["" if size == "all" else f"_{size}" for size in AREA_RANGES]
    expected = {f"ap50{end}": mean(precision[0, ..., i]) for i, end in enumerate(suffixes)}
    expected |= {f"ar50{end}": mean(recall[0, ..., i]) for i, end in enumerate(suffixes)}
    assert measured == {name: pytest.approx(value) for name, value in expected.items()}
    assert measured["ap50"] == coco_metrics(ground_truth, detections, kind)["ap50"]
