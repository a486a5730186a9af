import dataclasses

import pytest

from featlift.report.records import RunRecord
from featlift.report.tables import (
    class_rows,
    cost_rows,
    format_percent,
    format_signed_percent,
    format_significant,
    metric_rows,
)


def test_numbers_and_differences(runs, comparison):
    rows = {row.name: row.cells for row in metric_rows(runs, [comparison], "boxes")}
    first, second = rows["AP"]
    ap = [run.metrics["boxes"]["ap"] for run in runs]
    assert (first.text, second.text) == (f"{100 * ap[0]:.1f}", f"{100 * ap[1]:.1f}")
    assert (first.change, first.interval) == ("", None)
    assert second.change == f"+{100 * (ap[1] - ap[0]):.1f}"
    assert second.interval == comparison.intervals["boxes"]["ap"]
    assert "AP large" not in rows, "no run has objects of that size"


@pytest.mark.parametrize(("low", "high", "verdict"), [(0.1, 0.3, "better"), (-0.1, 0.3, "")])
def test_only_significant_differences_are_better(runs, comparison, low, high, verdict):
    comparison.intervals["boxes"]["ap"] = dataclasses.replace(comparison.intervals["boxes"]["ap"], low=low, high=high)
    assert metric_rows(runs, [comparison], "boxes")[0].cells[1].verdict == verdict


def test_a_negative_difference_is_worse(runs, truth):
    from featlift.evaluation.comparison import compare_detections

    swapped = compare_detections(truth, runs[1].detections, runs[0].detections, ("afi", "nearest"), n_resamples=50)
    cell = metric_rows(runs[::-1], [swapped], "boxes")[1].cells[1]
    assert cell.change.startswith("−")
    assert cell.verdict in ("worse", "")


def test_equal_runs_show_a_difference_of_zero(runs):
    same = dataclasses.replace(runs[0], name="same")
    assert metric_rows([runs[0], same], [], "boxes")[0].cells[1].change == "+0.0"


def test_a_run_without_the_number_has_a_dash(runs):
    rows = metric_rows([*runs, RunRecord("empty")], [], "boxes")
    assert rows[0].cells[2].text == "–"
    assert metric_rows(runs, [], "masks") == []


def test_classes(runs):
    assert [row.name for row in class_rows(runs, "boxes")] == ["sign", "<lamp>"]


def test_costs_and_ratios(runs):
    rows = {row.name: [(cell.text, cell.change) for cell in row.cells] for row in cost_rows(runs)}
    assert rows["Latency, ms"] == [("50.0", ""), ("75.0", "1.50×")]
    assert rows["Parameters, M"] == [("3.90", ""), ("3.90", "1.00×")]
    assert rows["Peak memory, MB"][0] == ("50.0", "")
    assert rows["Training, minutes"][1] == ("12.5", "1.00×")
    assert cost_rows([RunRecord("nothing")]) == []


def test_formats():
    assert format_percent(0.3741) == "37.4"
    assert (format_signed_percent(0.0191), format_signed_percent(-0.0191)) == ("+1.9", "−1.9")
    assert [format_significant(x) for x in (7.8346, 0.01234, 98.0, 108.4, 12345)] == [
        "7.83",
        "0.0123",
        "98.0",
        "108",
        "12,345",
    ]
