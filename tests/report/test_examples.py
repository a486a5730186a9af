import pytest

from featlift.report.examples import ComparisonExamples, build_run_examples


@pytest.fixture
def examples(comparison, runs, dataset):
    return ComparisonExamples(dataset, comparison, runs)


def test_gained_and_lost_objects_of_both_runs(examples):
    (first, *rest) = examples.object_pairs("gained", 4)
    assert len(rest) == 3
    assert "not found → IoU 1.00" in first.caption
    assert {box.style for box in first.first.boxes} == {"truth"}
    assert {box.style for box in first.second.boxes} == {"truth", "second"}
    assert first.first.uri == first.second.uri
    lost = examples.object_pairs("lost", 9)
    assert len(lost) == 2
    assert all("IoU 1.00 → not found" in pair.caption for pair in lost)
    assert examples.object_pairs("shifted", 9) == []


def test_the_surest_come_first(examples, runs):
    for i, detection in enumerate(runs[1].detections):
        detection["score"] = 0.8 + 0.01 * i
    assert "image 7" in examples.object_pairs("gained", 1)[0].caption


def test_images_with_the_most_changes(examples):
    whole = examples.image_pairs(9)
    assert [pair.caption for pair in whole] == [
        "image 1: 0 gained, 2 lost",
        "image 5: 2 gained, 0 lost",
        "image 6: 2 gained, 0 lost",
        "image 7: 2 gained, 0 lost",
    ]
    assert sum(box.style == "lost" for box in whole[0].second.boxes) == 2


def test_a_run_alone(runs, dataset):
    views = build_run_examples(dataset, runs[0], 3)
    assert len(views) == 3
    assert "score of at least 0.60" in views[0].caption
    assert {box.style for box in views[0].boxes} == {"found"}


def test_found_missed_and_false_have_their_colors(runs, dataset):
    """The second run finds objects 3 to 14 of 16; and here one more false positive."""
    run = runs[1]
    run.detections.append({"image_id": 2, "category_id": 1, "bbox": [40.0, 40, 9, 9], "score": 0.95})
    styles = [[box.style for box in view.boxes] for view in build_run_examples(dataset, run, 8)]
    assert styles[0] == ["missed", "missed"]
    assert sorted(styles[1]) == ["false", "found", "found"]
    assert styles[7] == ["missed", "missed"]
    assert sum(style == "found" for image_styles in styles for style in image_styles) == 12
    (false,) = [box for view in build_run_examples(dataset, run, 8) for box in view.boxes if box.style == "false"]
    assert false.label == "sign 95"


def test_a_run_that_found_nothing_says_so(runs, dataset):
    runs[1].detections.clear()
    (view,) = build_run_examples(dataset, runs[1], 1)
    assert "no detections in any image" in view.caption
    assert {box.style for box in view.boxes} == {"missed"}
