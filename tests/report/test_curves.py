import base64

import numpy as np
import pytest

from featlift.report.curves import RUN_COLORS, chart_of_scalar, plot_stage_curves, run_color, smooth
from featlift.report.records import RunRecord


def decode(uri):
    kind, data = uri.split(",", 1)
    assert kind == "data:image/svg+xml;base64"
    return base64.b64decode(data).decode()


def test_a_chart_for_each_scalar_of_each_stage(runs):
    log = [{"stage": "baseline", "step": i, "box_loss": 0.1 * i} for i in range(4)]
    curves = plot_stage_curves([*runs, RunRecord("plain", log=log)])
    assert list(curves) == ["gan", "baseline"]
    gan, baseline = decode(curves["gan"]), decode(curves["baseline"])
    assert "discriminator accuracy: real –, fake - -" in gan
    assert "box loss" in baseline
    assert run_color(0) in gan
    assert run_color(1) in gan
    assert run_color(2) in baseline
    assert run_color(0) not in baseline


def test_real_and_fake_share_a_chart():
    log = [{"step": i, "accuracy_real": 0.9, "accuracy_fake": 0.4, "discriminator": 1.0} for i in range(8)]
    svg = decode(plot_stage_curves([RunRecord("a", log=log)])["train"])
    assert "accuracy: real –, fake - -" in svg
    assert "accuracy fake" not in svg
    assert svg.count("stroke-dasharray") == 1  # the fake's smoothed line
    assert [chart_of_scalar(name) for name in ("accuracy_fake", "accuracy_real", "discriminator")] == [
        ("accuracy: real –, fake - -", "--"),
        ("accuracy: real –, fake - -", "-"),
        ("discriminator", "-"),
    ]


def test_nothing_logged_nothing_decode():
    assert plot_stage_curves([RunRecord("silent")]) == {}


def test_losses_that_are_not_finite_do_not_break_the_page():
    log = [{"step": i, "loss": float("nan") if i % 3 else 1.0} for i in range(50)]
    assert "svg" in decode(plot_stage_curves([RunRecord("a", log=log)])["train"])


def test_smoothing_by_hand():
    values = np.arange(80.0)
    values[40] = 400
    expected = [np.mean(values[max(0, i - 2) : i + 3]) for i in range(80)]
    assert smooth(values) == pytest.approx(expected)
    assert smooth(values[:5]).tolist() == [0, 1, 2, 3, 4]
    assert np.isnan(smooth(np.array([np.nan]))).all()


def test_colors_go_round():
    assert run_color(len(RUN_COLORS)) == run_color(0)
