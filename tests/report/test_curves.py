import base64

import numpy as np
import pytest

from featlift.report.curves import RUN_COLOURS, colour, smoothed, stage_curves
from featlift.report.records import RunRecord


def drawn(uri):
    kind, data = uri.split(",", 1)
    assert kind == "data:image/svg+xml;base64"
    return base64.b64decode(data).decode()


def test_a_chart_for_each_scalar_of_each_stage(runs):
    log = [{"stage": "baseline", "step": i, "box_loss": 0.1 * i} for i in range(4)]
    curves = stage_curves([*runs, RunRecord("plain", log=log)])
    assert list(curves) == ["gan", "baseline"]
    gan, baseline = drawn(curves["gan"]), drawn(curves["baseline"])
    assert "critic accuracy real" in gan
    assert "box loss" in baseline
    assert colour(0) in gan
    assert colour(1) in gan
    assert colour(2) in baseline
    assert colour(0) not in baseline


def test_nothing_logged_nothing_drawn():
    assert stage_curves([RunRecord("silent")]) == {}


def test_losses_that_are_not_finite_do_not_break_the_page():
    log = [{"step": i, "loss": float("nan") if i % 3 else 1.0} for i in range(50)]
    assert "svg" in drawn(stage_curves([RunRecord("a", log=log)])["train"])


def test_smoothing_by_hand():
    values = np.arange(80.0)
    values[40] = 400
    expected = [np.mean(values[max(0, i - 2) : i + 3]) for i in range(80)]
    assert smoothed(values) == pytest.approx(expected)
    assert smoothed(values[:5]).tolist() == [0, 1, 2, 3, 4]
    assert np.isnan(smoothed(np.array([np.nan]))).all()


def test_colours_go_round():
    assert colour(len(RUN_COLOURS)) == colour(0)
