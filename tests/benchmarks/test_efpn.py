"""The comparison of EFPN: input of the upper bound, tiled inference, and the rows of the table."""

from dataclasses import replace

import pytest
import torch
from efpn import build_table, first_images, format_interval, format_mean_std, result_name, scale_case
from efpn_baselines import BASE, DOUBLE_SIZE, LONGER, Candidate, UpperBoundExtractor, double_size, scenes, tiled_copy
from torch import nn

from featlift.data.config import build_dataset
from featlift.detectors import get_extractor
from featlift.detectors.config import build_detector
from featlift.detectors.efpn_config import build_efpn
from featlift.evaluation.bootstrap import ConfidenceInterval
from featlift.evaluation.detection import EvaluationResult


@pytest.fixture(scope="module")
def case():
    short = scale_case(scenes(), 0.001, 2)
    return replace(short, settings=replace(short.settings, data=replace(short.settings.data, num_val_scenes=3)))


def test_the_upper_bound_uses_p2_of_the_image_at_twice_the_size(case):
    F = get_extractor(build_detector(case.settings.model, 6)).eval()
    image = torch.rand(1, 3, 64, 96)
    enlarged = nn.functional.interpolate(image, scale_factor=2.0, mode="bilinear")
    features = UpperBoundExtractor(F).eval()(image)
    assert torch.equal(features["p2x"], F(enlarged)["p2"])
    assert torch.equal(features["p3"], F(image)["p3"])


def test_tiles_equal_the_whole_map(case):
    torch.manual_seed(0)
    T = build_efpn(build_detector(case.settings.model, 6), case.settings.extended_level).eval()
    tiled = tiled_copy(T, case.tile_size).eval()
    assert tiled.backbone is not T.backbone
    images = [torch.rand(3, 160, 160)]
    for key, value in T(images)[0].items():
        torch.testing.assert_close(tiled(images)[0][key], value)


def test_double_size_in_training_and_evaluation(case):
    larger = double_size(case.settings)
    assert larger.data.min_size == (320,)
    assert larger.model.detector_options["test_size"][0] == 320


def test_every_stage_is_scaled_and_has_at_least_one_step(case):
    assert [getattr(case.settings, stage).steps for stage in ("detector", "extension", "head")] == [1, 1, 1]
    assert case.num_images == 2


def test_a_longer_base_training_and_its_name():
    longer = scale_case(scenes(), 1.0, None, 4.0)
    assert [getattr(longer.settings, stage).steps for stage in ("detector", "extension", "head")] == [1400, 60, 40]
    assert longer.num_images == scenes().num_images
    assert (result_name("scenes", 4.0), result_name("scenes", 1.0)) == ("scenes_start4", "scenes")


def test_rows(case):
    """Two seeds: the base detector finds no object, the others all."""
    truth = first_images(build_dataset(case.settings.data, "val"), case.num_images)
    assert len(truth["images"]) == 2
    found = [
        {key: a[key] for key in ("image_id", "category_id", "bbox")} | {"score": 0.9} for a in truth["annotations"]
    ]
    none = {"ap": 0.0, "ap_tiny": 0.0, "ap_small": 0.0, "ar_small": None}
    nothing, everything = (
        EvaluationResult(metrics={"boxes": none}),
        EvaluationResult(found, metrics={"boxes": dict.fromkeys(none, 1.0)}),
    )
    results = {seed: {BASE: nothing, LONGER: everything, DOUBLE_SIZE: everything} for seed in range(2)}
    times = {BASE: 10.0, LONGER: 10.0, DOUBLE_SIZE: 40.0}
    costs = {name: {"ms": ms, "MB": 1, "GMAC": 1.0, "parameters": 5} for name, ms in times.items()}
    candidates = {name: Candidate(nn.Identity(), *(() if name == BASE else (3, 0.5))) for name in times}
    first, longer, second = build_table("scenes", case, results, candidates, costs)[0]["rows"]
    assert first["AP"] == "0.0 ± 0.0"
    assert first["AR small"] is None
    assert not [column for column in first if column.startswith("Δ")]
    assert [column for column in longer if column.startswith("Δ")] == ["Δ AP small to FPN [95 % CI]"]
    assert second["AP small"] == "100.0 ± 0.0"
    assert second["Δ AP small to FPN [95 % CI]"] == "+100.0 [+100.0, +100.0]"
    assert second["Δ AP small to FPN, longer training [95 % CI]"] == "+0.0 [+0.0, +0.0]"
    assert second["extra time, share of 2x's"] == 1.0
    assert second["steps"] == 3


def test_one_seed_has_no_deviation_and_no_small_objects_no_difference():
    assert format_mean_std([EvaluationResult(metrics={"boxes": {"ap": 0.25}})], "ap") == "25.0"
    assert format_interval({}) is None
    assert format_interval({"ap_small": ConfidenceInterval(0.01, -0.02, 0.03, 0.95)}) == "+1.0 [-2.0, +3.0]"
