"""``featlift upgrade``: a run's detector, upgraded, trained a step, kept as a difference."""

import pytest
import torch

from featlift.cli import main
from featlift.commands import upgrade
from featlift.commands.upgrade import apply
from featlift.evaluation.cost import Latency
from featlift.papers import baseline


@pytest.fixture(scope="module")
def detector(tmp_path_factory):
    """A tiny detector of ours in a run folder."""
    folder = tmp_path_factory.mktemp("run")
    options = {"anchor_scale": 4.0, "width": 16, "proposals": 20}
    model = baseline.Model("faster-rcnn", "resnet10t", "random", "batch", 0, channels=8, detector_options=options)
    classes = ["three", "eight", "rows", "columns", "up", "down"]
    baseline.save(baseline.build(model, 6), model, classes, folder)
    return folder


def test_without_steps_nothing_changes_but_what_was_added(detector, tmp_path, capsys):
    out = tmp_path / "delta.safetensors"
    assert main(["upgrade", str(detector), "--interpolator", "deconv", "--out", str(out)]) == 0
    assert "the same to the last bit" in capsys.readouterr().out
    picture = [torch.rand(3, 64, 96)]
    plain, lifted = baseline.load(detector)[0].eval(), apply(str(detector), str(out)).eval()
    assert torch.equal(plain(picture)[0]["boxes"], lifted(picture)[0]["boxes"])


def test_a_step_trains_what_was_added_and_nothing_else(detector, tmp_path):
    out = tmp_path / "delta.safetensors"
    words = [
        "upgrade",
        str(detector),
        "--interpolator",
        "deconv",
        "--data",
        "scenes",
        "--steps",
        "1",
        "--out",
        str(out),
    ]
    assert main(words) == 0
    plain, lifted = baseline.load(detector)[0].state_dict(), apply(str(detector), str(out)).state_dict()
    assert all(torch.equal(value, lifted[name]) for name, value in plain.items())
    last = [value for name, value in lifted.items() if "added" in name and "last" in name]
    assert any(value.abs().sum() > 0 for value in last)


def test_an_unknown_detector_names_what_there_is(capsys):
    assert main(["upgrade", "fastrcnn"]) == 1
    assert "fasterrcnn_resnet50_fpn" in capsys.readouterr().err


@pytest.fixture
def clock(monkeypatch):
    """Milliseconds that each candidate adds, as the test says."""
    said = dict.fromkeys(upgrade.CANDIDATES, 99.0) | {"deconv": 7.0, "dysample": 2.0, "light": 1.0}
    monkeypatch.setattr(upgrade, "added_milliseconds", lambda steps, budget: said)


@pytest.mark.parametrize(("budget", "chosen"), [(98, "deconv"), (5, "dysample"), (1, "light"), (99, "afi")])
def test_within_a_budget_the_best_that_fits(clock, detector, budget, chosen):
    found = upgrade.within(baseline.load(detector)[0], upgrade.Budget(budget, "64x96"))
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

    monkeypatch.setattr(upgrade, "latencies", latencies)
    taken = upgrade.added_milliseconds([], upgrade.Budget(5.0))
    assert asked == [(upgrade.CANDIDATES, 1, 0), (upgrade.CANDIDATES[1:], 5, 1)]
    assert taken == pytest.approx({name: 2000 if name == "afi" else 4 for name in upgrade.CANDIDATES})


def test_a_budget_on_the_command_line(detector, tmp_path, capsys):
    """A day for one picture: the first candidate, and each was measured."""
    out = tmp_path / "delta.safetensors"
    words = ["upgrade", str(detector), "--budget-ms", "86400000", "--size", "32x64", "--out", str(out)]
    assert main(words) == 0
    printed = capsys.readouterr().out
    assert "ms: afi" in printed
    assert "+ afi" in printed
    assert all(f"{name} " in printed for name in upgrade.CANDIDATES)
