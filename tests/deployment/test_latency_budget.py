"""``featlift upgrade --budget-ms``: the best that fits; time is told by the test."""

import pytest

from featlift.cli.main import main
from featlift.deployment import latency_budget as budget
from featlift.evaluation.profiling import Latency
from featlift.papers import baseline


@pytest.fixture(scope="module")
def detector(tmp_path_factory):
    """A tiny detector of ours in a run folder."""
    folder = tmp_path_factory.mktemp("run")
    options = {"anchor_scale": 4.0, "width": 16, "proposals": 20}
    model = baseline.DetectorConfig(
        "faster-rcnn", "resnet10t", "random", "batch", 0, pyramid_channels=8, detector_options=options
    )
    classes = ["three", "eight", "rows", "columns", "up", "down"]
    baseline.save_detector(baseline.build_detector(model, 6), model, classes, folder)
    return folder


@pytest.fixture
def clock(monkeypatch):
    """Milliseconds that each candidate adds, as the test says."""
    said = dict.fromkeys(budget.BUDGET_CANDIDATES, 99.0) | {"deconv": 7.0, "dysample": 2.0, "light": 1.0}
    monkeypatch.setattr(budget, "added_milliseconds", lambda steps, budget: said)


@pytest.mark.parametrize(("most", "chosen"), [(98, "deconv"), (5, "dysample"), (1, "light"), (99, "afi")])
def test_within_a_budget_the_best_that_fits(clock, detector, most, chosen):
    found = budget.select_within_budget(baseline.load_detector(detector)[0], budget.LatencyBudget(most, "64x96"))
    assert found == chosen


def test_a_budget_that_nothing_keeps_to(clock, detector, capsys):
    assert main(["upgrade", str(detector), "--budget-ms", "0.5", "--size", "64x96"]) == 1
    assert "No interpolator adds at most 0.5 ms" in capsys.readouterr().err


def test_what_is_hopeless_is_timed_once(monkeypatch):
    """AFI takes 2 s at its first call where 5 ms are allowed; all others 20 ms, and 4 ms once they are warm."""
    asked = []

    def latencies(calls, rounds, warmup):
        asked.append((tuple(calls), rounds, warmup))
        seconds = {name: 2.0 if name == "afi" else 0.02 if not warmup else 0.004 for name in calls}
        return {name: Latency(taken, taken) for name, taken in seconds.items()}

    monkeypatch.setattr(budget, "latencies", latencies)
    taken = budget.measure_added_latency([], budget.LatencyBudget(5.0))
    assert asked == [(budget.BUDGET_CANDIDATES, 1, 0), (budget.BUDGET_CANDIDATES[1:], 5, 1)]
    assert taken == pytest.approx({name: 2000 if name == "afi" else 4 for name in budget.BUDGET_CANDIDATES})


def test_a_budget_on_the_command_line(detector, tmp_path, capsys):
    """A day for one picture: the first candidate, and each was measured."""
    out = tmp_path / "delta.safetensors"
    words = ["upgrade", str(detector), "--budget-ms", "86400000", "--size", "32x64", "--out", str(out)]
    assert main(words) == 0
    printed = capsys.readouterr().out
    assert "ms: afi" in printed
    assert "+ afi" in printed
    assert all(f"{name} " in printed for name in budget.BUDGET_CANDIDATES)
