import pytest

from featlift.report.examples import ComparisonExamples, build_run_examples


@pytest.fixture
def scenes(comparison, runs, evidence):
    return ComparisonExamples(evidence, comparison, runs)


def test_gained_and_lost_objects_as_both_saw_them(scenes):
    (first, *rest) = scenes.objects("gained", 4)
    assert len(rest) == 3
    assert "not found → IoU 1.00" in first.caption
    assert {one.style for one in first.first.outlines} == {"truth"}
    assert {one.style for one in first.second.outlines} == {"truth", "second"}
    assert first.first.uri == first.second.uri
    lost = scenes.objects("lost", 9)
    assert len(lost) == 2
    assert all("IoU 1.00 → not found" in pair.caption for pair in lost)
    assert scenes.objects("moved", 9) == []


def test_the_surest_come_first(scenes, runs):
    for i, detection in enumerate(runs[1].detections):
        detection["score"] = 0.8 + 0.01 * i
    assert "picture 7" in scenes.objects("gained", 1)[0].caption


def test_whole_pictures_where_most_changed(scenes):
    whole = scenes.wholes(9)
    assert [pair.caption for pair in whole] == [
        "picture 1: 0 gained, 2 lost",
        "picture 5: 2 gained, 0 lost",
        "picture 6: 2 gained, 0 lost",
        "picture 7: 2 gained, 0 lost",
    ]
    assert sum(one.style == "lost" for one in whole[0].second.outlines) == 2


def test_a_run_alone(runs, evidence):
    views = build_run_examples(evidence, runs[0], 3)
    assert len(views) == 3
    assert "score of at least 0.60" in views[0].caption
    assert {one.style for one in views[0].boxes} == {"found"}


def test_found_missed_and_false_have_their_colors(runs, evidence):
    """The second run finds objects 3 to 14 of 16; here one detection more, on nothing."""
    run = runs[1]
    run.detections.append({"image_id": 2, "category_id": 1, "bbox": [40.0, 40, 9, 9], "score": 0.95})
    styles = [[one.style for one in view.boxes] for view in build_run_examples(evidence, run, 8)]
    assert styles[0] == ["missed", "missed"]
    assert sorted(styles[1]) == ["false", "found", "found"]
    assert styles[7] == ["missed", "missed"]
    assert sum(style == "found" for of_one in styles for style in of_one) == 12
    (false,) = [one for view in build_run_examples(evidence, run, 8) for one in view.boxes if one.style == "false"]
    assert false.label == "sign 95"


def test_a_run_that_found_nothing_says_so(runs, evidence):
    runs[1].detections.clear()
    (view,) = build_run_examples(evidence, runs[1], 1)
    assert "nothing was found anywhere" in view.caption
    assert {one.style for one in view.boxes} == {"missed"}
