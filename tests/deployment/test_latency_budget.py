"""``featlift upgrade --max-latency-ms``: the best interpolator within a budget, with latencies set by the test."""

import pytest

from featlift.cli.main import main
from featlift.deployment import latency_budget as budget
from featlift.detectors.checkpoint import load_detector, save_detector
from featlift.detectors.config import DetectorConfig, build_detector
from featlift.profiling import Latency


@pytest.fixture(scope="module")
def detector(tmp_path_factory):
    """A tiny FeatLift detector in a run folder."""
    folder = tmp_path_factory.mktemp("run")
    options = {"anchor_scale": 4.0, "fc_dim": 16, "num_proposals": 20}
    model = DetectorConfig(
        "faster-rcnn", "resnet10t", "random", "batch", 0, pyramid_channels=8, detector_options=options
    )
    classes = ["three", "eight", "rows", "columns", "up", "down"]
    save_detector(build_detector(model, 6), model, classes, folder)
    return folder


@pytest.fixture
def clock(monkeypatch):
    """Sets the milliseconds that each candidate adds."""
    latencies = dict.fromkeys(budget.BUDGET_CANDIDATES, 99.0) | {"deconv": 7.0, "dysample": 2.0, "light": 1.0}
    monkeypatch.setattr(budget, "measure_added_latency", lambda steps, budget: latencies)


@pytest.mark.parametrize(("max_latency_ms", "expected"), [(98, "deconv"), (5, "dysample"), (1, "light"), (99, "afi")])
def test_the_best_within_the_budget(clock, detector, max_latency_ms, expected):
    name = budget.select_within_budget(load_detector(detector)[0], budget.LatencyBudget(max_latency_ms, "64x96"))
    assert name == expected


def test_one_number_is_the_side_of_a_square():
    assert budget.random_image("128").shape == (3, 128, 128)
    assert budget.random_image("64x96").shape == (3, 64, 96)


def test_a_budget_that_no_interpolator_meets(clock, detector, capsys):
    assert main(["upgrade", str(detector), "--max-latency-ms", "0.5", "--image-size", "64x96"]) == 1
    assert "No interpolator adds at most 0.5 ms" in capsys.readouterr().err


def test_a_candidate_far_over_the_budget_is_timed_once(monkeypatch):
    """AFI takes 2 s at its first call with a budget of 5 ms; all others 20 ms, and 4 ms after warm-up."""
    measured = []

    def latencies(calls, rounds, warmup):
        measured.append((tuple(calls), rounds, warmup))
        seconds = {name: 2.0 if name == "afi" else 0.02 if not warmup else 0.004 for name in calls}
        return {name: Latency(s, s) for name, s in seconds.items()}

    monkeypatch.setattr(budget, "measure_latencies", latencies)
    added = budget.measure_added_latency([], budget.LatencyBudget(5.0))
    assert measured == [(budget.BUDGET_CANDIDATES, 1, 0), (budget.BUDGET_CANDIDATES[1:], 5, 1)]
    assert added == pytest.approx({name: 2000 if name == "afi" else 4 for name in budget.BUDGET_CANDIDATES})


def test_a_budget_on_the_command_line(detector, tmp_path, capsys):
    """A budget of a day admits the first candidate; all are measured."""
    out = tmp_path / "delta.safetensors"
    argv = ["upgrade", str(detector), "--max-latency-ms", "86400000", "--image-size", "32x64", "--out", str(out)]
    assert main(argv) == 0
    printed = capsys.readouterr().out
    assert "ms: afi" in printed
    assert "+ afi" in printed
    assert all(f"{name} " in printed for name in budget.BUDGET_CANDIDATES)
