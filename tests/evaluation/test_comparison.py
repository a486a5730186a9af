import pytest

from featlift.evaluation.average_precision import average_precision
from featlift.evaluation.comparison import compare
from featlift.evaluation.object_changes import gains


def test_a_comparison_says_how_much_and_which(random_truth, random_detections):
    truth = random_truth(3)
    first, second = random_detections(truth, 1), random_detections(truth, 2)
    both = compare(truth, first, second, ("nearest", "afi"), kinds=("boxes", "masks"), resamples=10)
    assert (both.first, both.second) == ("nearest", "afi")
    for kind in ("boxes", "masks"):
        difference = average_precision(truth, second, kind)["ap"] - average_precision(truth, first, kind)["ap"]
        assert both.intervals[kind]["ap"].difference == pytest.approx(difference)
    assert both.gains == gains(truth, first, second)


def test_swapping_turns_gains_into_losses(random_truth, random_detections):
    truth = random_truth(3)
    first, second = random_detections(truth, 1), random_detections(truth, 2)
    forth, back = compare(truth, first, second, resamples=10), compare(truth, second, first, resamples=10)
    ids = [{fate.annotation_id for fate in one} for one in (forth.gains.of("gained"), back.gains.of("lost"))]
    assert ids[0] == ids[1] != set()
    assert forth.intervals["boxes"]["ap"].difference == pytest.approx(-back.intervals["boxes"]["ap"].difference)
