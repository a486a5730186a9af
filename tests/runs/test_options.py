"""Options of an evaluation and of a run."""

import json

import pytest

from featlift.runs.options import InferenceOptions, RunOptions, open_run
from featlift.training.schedules import StageConfig, quick_optimizer


def test_augmentation_is_flipping_or_another_scale():
    assert not InferenceOptions().has_augmentation
    assert InferenceOptions(flip=True).has_augmentation
    assert InferenceOptions(scales=(1.0, 1.5)).has_augmentation


@pytest.mark.parametrize(
    ("options", "variant"),
    [
        ({}, ""),
        ({"flip": True}, "multi-scale"),
        ({"level": "p3", "scales": (2.0,)}, "p3-multi-scale"),
        ({"slice_size": 64}, "slices"),
        ({"double_size_level": 56.0}, "double-size-level"),
    ],
)
def test_each_kind_of_inference_has_a_name(options, variant):
    assert InferenceOptions(**options).variant == variant


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"slice_size": 64, "scales": (2.0,)}, "--scales or --flip and --slice-size cannot be combined"),
        ({"slice_size": 64, "double_size_level": 56.0}, "--slice-size and --double-size-level"),
        ({"level": "p3", "double_size_level": 56.0}, "--level and --double-size-level"),
    ],
)
def test_what_cannot_be_combined(options, message):
    with pytest.raises(ValueError, match=message):
        InferenceOptions(**options).check_combination()


def test_a_run_stores_its_paper_and_its_settings(tmp_path):
    options = RunOptions(tmp_path / "run", seed=3, device="cpu", save_every=7)
    with open_run("afi-gan", StageConfig(5, quick_optimizer()), options) as run:
        assert (run.seed, run.save_every) == (3, 7)
    stored = json.loads((tmp_path / "run" / "settings.json").read_text())
    assert (stored["paper"], stored["steps"], stored["optimizer"]["name"]) == ("afi-gan", 5, "adamw")
