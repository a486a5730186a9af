"""Ranking of candidates from records made by hand; a whole benchmark is in tests/commands/test_benchmark.py."""

import pytest

from featlift import SyntheticScenes
from featlift.evaluation.coco_metrics import coco_metrics
from featlift.experiments.ranking import (
    build_pareto_points,
    build_ranking,
    print_ranking,
    remove_seed_effect,
    rename_run,
    write_ranking_report,
)
from featlift.profiling import Latency, ModelProfile
from featlift.report.records import RunRecord

LATENCIES = {"nearest:plain": Latency(0.010, 0.009), "afi": Latency(0.015, 0.014)}


@pytest.fixture
def dataset():
    return SyntheticScenes(3, image_size=(64, 64))


@pytest.fixture
def records(dataset):
    """Two seeds: the first candidate detects every other object, the second all objects."""
    truth = dataset.coco()

    def run(stride):
        detections = [
            {key: a[key] for key in ("image_id", "category_id", "bbox")} | {"score": 0.9}
            for a in truth["annotations"][::stride]
        ]
        profile = ModelProfile(1000 // stride, 1.0, Latency(1.0, 1.0), 5, (64, 64), "cpu")
        return RunRecord(
            "original name", {"boxes": coco_metrics(truth, detections)}, profile, 2.0, [], detections, {}, {}
        )

    return {"nearest:plain": [run(2), run(2)], "afi": [run(1), run(1)]}


def test_rows_have_differences_to_the_first_and_costs(records, dataset):
    first, second = build_ranking(records, {"nearest:plain": 5, "afi": 7}, LATENCIES, dataset, 20)
    assert (first["interpolator"], first["steps"], second["steps"]) == ("nearest:plain", 5, 7)
    assert second["AP boxes"] == "100.0 ± 0.0"
    assert not [column for column in first if column.startswith("Δ")]
    low, high = second["Δ AP boxes [95 % CI]"].partition("[")[2].rstrip("]").split(",")
    assert 0 < float(low) <= float(high)
    assert (first["parameters"], second["parameters"], second["minutes"]) == (500, 1000, 2.0)
    assert (second["ms"], second["latency ratio"]) == (15.0, 1.5)


def test_points_are_latencies_and_the_ap_of_every_seed(records):
    found = build_pareto_points(records, LATENCIES)
    assert found["afi"] == (15.0, pytest.approx([100.0, 100.0]))
    assert found["nearest:plain"][1][0] < 100


def test_the_effect_of_a_seed_is_removed():
    """By hand: seed 1 is 10 above seed 0 for all; "b" is 2 better in one seed and equal in the other."""
    found = remove_seed_effect({"a": [20.0, 30.0], "b": [22.0, 30.0]})
    assert found == {"a": [24.5, 25.5], "b": [26.5, 25.5]}


def test_the_page_has_all_candidates_and_the_gains_of_the_best(records, dataset, tmp_path):
    text = write_ranking_report(tmp_path, records, LATENCIES, dataset, 20).read_text()
    assert all(part in text for part in ("2 interpolators at equal budget", "nearest:plain", "afi", "gained and lost"))
    assert "original name" not in text


def test_a_single_candidate_has_no_comparison(records, dataset, tmp_path):
    single = {"afi": records["afi"]}
    assert "gained and lost" not in write_ranking_report(tmp_path, single, LATENCIES, dataset, 20).read_text()


def test_a_run_is_renamed_and_gets_the_interleaved_latency(records):
    run = rename_run("afi", records["afi"][0], LATENCIES["afi"])
    assert (run.name, run.profile.latency, run.profile.num_parameters) == ("afi", LATENCIES["afi"], 1000)


def test_the_table_is_printed_whole(records, dataset, capsys):
    print_ranking(
        build_ranking(records, {"nearest:plain": 5, "afi": 7}, LATENCIES, dataset, 20), "ranking of candidates"
    )
    printed = capsys.readouterr().out
    assert "ranking of candidates" in printed
    assert "1,000" in printed
    assert "[95 % CI]" in printed
