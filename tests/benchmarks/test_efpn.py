"""The comparison behind EFPN's table: what the upper bound sees, what the windows change, and how numbers become rows."""

from dataclasses import replace

import pytest
import torch
from efpn import called, first_pictures, interval, shortened, spread, table
from rivals import START, TRAINED_ON, TWICE, Contestant, FromTwice, in_windows, scenes, twice
from torch import nn

from featlift.detectors import get_extractor
from featlift.evaluation.bootstrap import ConfidenceInterval
from featlift.evaluation.detection import EvaluationResult
from featlift.papers import baseline, efpn


@pytest.fixture(scope="module")
def case():
    short = shortened(scenes(), 0.001, 2)
    return replace(short, settings=replace(short.settings, data=replace(short.settings.data, num_val_scenes=3)))


def test_the_upper_bound_reads_p2_of_the_picture_at_twice_the_size(case):
    F = get_extractor(baseline.build_detector(case.settings.model, 6)).eval()
    image = torch.rand(1, 3, 64, 96)
    twice = nn.functional.interpolate(image, scale_factor=2.0, mode="bilinear")
    seen = FromTwice(F).eval()(image)
    assert torch.equal(seen["p2x"], F(twice)["p2"])
    assert torch.equal(seen["p3"], F(image)["p3"])


def test_windows_answer_as_the_whole_map(case):
    torch.manual_seed(0)
    T = efpn.build_efpn(baseline.build_detector(case.settings.model, 6), case.settings.finer).eval()
    windowed = in_windows(T, case.tile).eval()
    assert windowed.backbone is not T.backbone
    picture = [torch.rand(3, 160, 160)]
    for key, value in T(picture)[0].items():
        torch.testing.assert_close(windowed(picture)[0][key], value)


def test_twice_doubles_training_and_test(case):
    larger = twice(case.settings)
    assert larger.data.min_size == (320,)
    assert larger.model.detector_options["test_size"][0] == 320


def test_every_stage_is_shortened_and_none_is_lost(case):
    assert [getattr(case.settings, stage).steps for stage in ("detector", "extension", "head")] == [1, 1, 1]
    assert case.measured == 2


def test_a_longer_start_and_its_name():
    longer = shortened(scenes(), 1.0, None, 4.0)
    assert [getattr(longer.settings, stage).steps for stage in ("detector", "extension", "head")] == [1400, 60, 40]
    assert longer.measured == scenes().measured
    assert (called("scenes", 4.0), called("scenes", 1.0)) == ("scenes_start4", "scenes")


def test_rows(case):
    """Two seeds: the start finds nothing, the other all of it."""
    truth = first_pictures(baseline.build_dataset(case.settings.data, "val"), case.measured)
    assert len(truth["images"]) == 2
    found = [
        {key: a[key] for key in ("image_id", "category_id", "bbox")} | {"score": 0.9} for a in truth["annotations"]
    ]
    none = {"ap": 0.0, "ap_tiny": 0.0, "ap_small": 0.0, "ar_small": None}
    nothing, everything = (
        EvaluationResult(metrics={"boxes": none}),
        EvaluationResult(found, metrics={"boxes": dict.fromkeys(none, 1.0)}),
    )
    results = {seed: {START: nothing, TRAINED_ON: everything, TWICE: everything} for seed in range(2)}
    times = {START: 10.0, TRAINED_ON: 10.0, TWICE: 40.0}
    costs = {name: {"ms": ms, "MB": 1, "GMAC": 1.0, "parameters": 5} for name, ms in times.items()}
    trained = {name: Contestant(nn.Identity(), *(() if name == START else (3, 0.5))) for name in times}
    first, longer, second = table("scenes", case, results, trained, costs)[0]["rows"]
    assert first["AP"] == "0.0 ± 0.0"
    assert first["AR small"] is None
    assert not [column for column in first if column.startswith("Δ")]
    assert [column for column in longer if column.startswith("Δ")] == ["Δ AP small to FPN [95 %]"]
    assert second["AP small"] == "100.0 ± 0.0"
    assert second["Δ AP small to FPN [95 %]"] == "+100.0 [+100.0, +100.0]"
    assert second["Δ AP small to FPN, trained on [95 %]"] == "+0.0 [+0.0, +0.0]"
    assert second["extra time, share of 2x's"] == 1.0
    assert second["steps"] == 3


def test_one_seed_has_no_spread_and_no_small_object_no_gain():
    assert spread([EvaluationResult(metrics={"boxes": {"ap": 0.25}})], "ap") == "25.0"
    assert interval({}) is None
    assert interval({"ap_small": ConfidenceInterval(0.01, -0.02, 0.03, 0.95)}) == "+1.0 [-2.0, +3.0]"
