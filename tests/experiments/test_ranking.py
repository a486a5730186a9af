"""How contestants stand, from records made by hand; a whole contest is in test_versus.py."""

import pytest

from featlift import SyntheticScenes
from featlift.evaluation.average_precision import coco_metrics
from featlift.evaluation.profiling import Latency, ModelProfile
from featlift.experiments.ranking import (
    build_pareto_points,
    build_ranking,
    print_ranking,
    remove_seed_effect,
    rename_run,
    write_ranking_report,
)
from featlift.report.records import RunRecord

TAKEN = {"nearest:plain": Latency(0.010, 0.009), "afi": Latency(0.015, 0.014)}


@pytest.fixture
def shown():
    return SyntheticScenes(3, image_size=(64, 64))


@pytest.fixture
def records(shown):
    """Two seeds: the first finds every other object, the second all of them."""
    truth = shown.coco()

    def run(every):
        found = [
            {key: a[key] for key in ("image_id", "category_id", "bbox")} | {"score": 0.9}
            for a in truth["annotations"][::every]
        ]
        cost = ModelProfile(1000 // every, 1.0, Latency(1.0, 1.0), 5, (64, 64), "cpu")
        return RunRecord("as it was called", {"boxes": coco_metrics(truth, found)}, cost, 2.0, [], found, {}, {})

    return {"nearest:plain": [run(2), run(2)], "afi": [run(1), run(1)]}


def test_rows_have_what_one_gains_over_the_first_and_what_it_costs(records, shown):
    first, second = build_ranking(records, {"nearest:plain": 5, "afi": 7}, TAKEN, shown, 20)
    assert (first["interpolator"], first["steps"], second["steps"]) == ("nearest:plain", 5, 7)
    assert second["AP boxes"] == "100.0 ± 0.0"
    assert not [column for column in first if column.startswith("Δ")]
    low, high = second["Δ AP boxes [95 %]"].partition("[")[2].rstrip("]").split(",")
    assert 0 < float(low) <= float(high)
    assert (first["parameters"], second["parameters"], second["minutes"]) == (500, 1000, 2.0)
    assert (second["ms"], second["x the first"]) == (15.0, 1.5)


def test_points_are_milliseconds_and_every_seeds_ap(records):
    found = build_pareto_points(records, TAKEN)
    assert found["afi"] == (15.0, pytest.approx([100.0, 100.0]))
    assert found["nearest:plain"][1][0] < 100


def test_a_better_start_is_no_merit_of_the_contestants():
    """Hand: seed 1 is 10 above seed 0 for all; "b" is 2 better in one and equal in the other."""
    found = remove_seed_effect({"a": [20.0, 30.0], "b": [22.0, 30.0]})
    assert found == {"a": [24.5, 25.5], "b": [26.5, 25.5]}


def test_the_page_shows_everyone_and_what_the_best_gained(records, shown, tmp_path):
    text = write_ranking_report(tmp_path, records, TAKEN, shown, 20).read_text()
    assert all(part in text for part in ("2 interpolators at equal budget", "nearest:plain", "afi", "gained and lost"))
    assert "as it was called" not in text


def test_alone_nobody_is_compared(records, shown, tmp_path):
    one = {"afi": records["afi"]}
    assert "gained and lost" not in write_ranking_report(tmp_path, one, TAKEN, shown, 20).read_text()


def test_a_run_is_called_as_it_competes_with_the_time_of_the_contest(records):
    one = rename_run("afi", records["afi"][0], TAKEN["afi"])
    assert (one.name, one.profile.latency, one.profile.num_parameters) == ("afi", TAKEN["afi"], 1000)


def test_the_table_is_printed_whole(records, shown, capsys):
    print_ranking(build_ranking(records, {"nearest:plain": 5, "afi": 7}, TAKEN, shown, 20), "who stands where")
    said = capsys.readouterr().out
    assert "who stands where" in said
    assert "1,000" in said
    assert "[95 %]" in said
