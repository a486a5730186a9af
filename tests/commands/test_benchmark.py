import json
from dataclasses import replace
from pathlib import Path

import pytest

from featlift.cli import main
from featlift.commands import benchmark as module
from featlift.commands.benchmark import (
    DEFAULT_CANDIDATES,
    benchmark,
    build_candidate,
    candidate_folder,
    has_learned_interpolator,
)
from featlift.interpolators import INTERPOLATORS
from featlift.papers import afi_gan
from featlift.papers.afi_gan import AdversarialConfig
from featlift.papers.baseline import DataConfig, StageConfig
from featlift.training import OptimizerConfig

QUICK = afi_gan.Settings.quick()


def tiny():
    """A step or two a stage and no critic: it would take most of the time."""
    head = {"anchor_scale": 4.0, "width": 16, "proposals": 20}
    model = replace(
        QUICK.model, pyramid_channels=8, interpolator_options={"growth": 4, "blocks": 1}, detector_options=head
    )
    stages = {name: StageConfig(1 + i % 2, OptimizerConfig(lr=0.01)) for i, name in enumerate(afi_gan.STAGES)}
    data = DataConfig(batch_size=2, min_size=(), num_workers=0, num_scenes=4, scene_size=64, num_val_scenes=3)
    return replace(QUICK, model=model, data=data, adversarial=AdversarialConfig(weight=0.0), **stages)


TEACHABLE = [name for name in INTERPOLATORS if name not in ("nearest", "bilinear", "bicubic")]


@pytest.mark.parametrize(
    "name", [*INTERPOLATORS, *(f"{n}:plain" for n in INTERPOLATORS), *(f"{n}:taught" for n in TEACHABLE)]
)
def test_everyone_takes_as_many_steps(name):
    stages = (QUICK.interpolator, QUICK.extractor, QUICK.target)
    one = build_candidate(name, QUICK, "F.safetensors")
    assert one.steps == sum(stage.steps for stage in stages) == 400
    assert one.settings.model == replace(QUICK.model, interpolator=name.partition(":")[0])


def test_what_cannot_learn_gets_its_steps_in_the_target():
    fixed, learned = (build_candidate(name, QUICK, "").settings for name in ("bilinear", "deconv"))
    assert not has_learned_interpolator(fixed.model)
    assert has_learned_interpolator(learned.model)
    assert (fixed.target.steps, learned.target.steps) == (340, 300)
    assert fixed.extractor == learned.extractor == QUICK.extractor


def test_all_start_from_the_same_detector():
    assert build_candidate("nearest:plain", QUICK, "F.safetensors").settings.start == "F.safetensors"
    assert build_candidate("afi", QUICK, "F.safetensors").settings.teacher_from == "F.safetensors"
    taught = build_candidate("light:taught", QUICK, "F.safetensors").settings
    assert (taught.teachers_from, taught.start) == (("F.safetensors",), "teacher")


def test_what_cannot_learn_is_not_taught():
    with pytest.raises(ValueError, match="'nearest' has nothing that could be taught"):
        build_candidate("nearest:taught", QUICK, "")


@pytest.fixture(scope="module")
def contest(tmp_path_factory):
    """The folder of two interpolators with two seeds, and what came out."""
    folder = tmp_path_factory.mktemp("versus")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(afi_gan.Settings, "quick", staticmethod(tiny))
        whole = benchmark(
            ("nearest:plain", "afi", "light:taught"), str(folder), num_seeds=2, device="cpu", n_resamples=20
        )
    return folder, whole


def test_the_table_has_means_spreads_and_intervals(contest):
    folder, whole = contest
    assert json.loads((folder / "versus.json").read_text()) == whole
    first, second, third = whole["tables"][0]["rows"]
    assert [row["interpolator"] for row in (first, second, third)] == ["nearest:plain", "afi", "light:taught"]
    assert first["steps"] == second["steps"] == third["steps"] == 2 + 1 + 2
    assert second["parameters"] > first["parameters"]
    assert "±" in first["AP boxes"]
    assert not [name for name in first if name.startswith("Δ")]
    assert second["Δ AP boxes [95 %]"].count(",") == 1
    assert first["x the first"] == 1.0
    assert second["ms"] > 0
    assert (folder / "pareto.png").read_bytes().startswith(b"\x89PNG")
    page = (folder / "report.html").read_text()
    assert all(part in page for part in ("3 interpolators at equal budget", "Accuracy against time", "gained and lost"))
    assert whole["made"]["seed"] == "0, 1"
    assert "nearest:plain afi light:taught" in whole["made"]["command"]
    assert {"commit", "versions", "device", "date"} <= set(whole["made"])


def test_every_run_took_the_steps_it_is_said_to(contest):
    folder, _ = contest
    for seed in (0, 1):
        result = lambda word: json.loads((candidate_folder(folder / f"seed-{seed}", word) / "result.json").read_text())  # noqa: B023, E731
        plain, staged, taught = result("nearest:plain"), result("afi"), result("light:taught")
        assert {name: stage["step"] for name, stage in plain["stages"].items()} == {"train": 5}
        assert {name: stage["step"] for name, stage in staged["stages"].items()} == {
            "interpolator": 2, "extractor": 1, "target": 2,
        }  # fmt: skip
        assert {name: stage["step"] for name, stage in taught["stages"].items()} == {"interpolator": 2, "target": 3}
        assert plain["seed"] == staged["seed"] == taught["seed"] == seed


def lasting(whole):
    """The rows without what is measured anew each time."""
    return [{k: v for k, v in row.items() if k not in ("ms", "x the first")} for row in whole["tables"][0]["rows"]]


def test_the_same_folder_again_trains_nothing(contest, monkeypatch):
    folder, whole = contest
    monkeypatch.setattr(afi_gan.Settings, "quick", staticmethod(tiny))
    monkeypatch.setattr(module, "conclude", lambda *_: pytest.fail("a finished run was done again"))
    again = benchmark(("nearest:plain", "afi", "light:taught"), str(folder), num_seeds=2, device="cpu", n_resamples=20)
    assert lasting(again) == lasting(whole)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("afi:alone", "ends in ':alone'"),
        ("aif", "Did you mean 'afi'"),
        ("afi afi", "Name each interpolator once"),
        ("afi --seeds 0", "at least one seed"),
        ("afi --preset fast", "there are paper, quick"),
    ],
)
def test_errors_are_a_sentence_and_leave_nothing(words, told, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main.main(["versus", *words.split()]) == 1
    assert told in capsys.readouterr().err
    assert not list(Path().iterdir())


def test_without_names_all_controls_compete():
    assert DEFAULT_CANDIDATES[0] == "nearest:plain"
    assert {"nearest", "bilinear", "deconv", "dysample", "carafe"} < set(DEFAULT_CANDIDATES)
