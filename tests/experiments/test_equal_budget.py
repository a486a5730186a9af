"""Candidates at an equal budget: their steps, starts and results."""

import json
from dataclasses import replace

import pytest

from featlift.commands.benchmark import benchmark
from featlift.data.config import DataConfig
from featlift.experiments.equal_budget import build_candidate, candidate_folder, has_learned_interpolator
from featlift.interpolators import GUIDED_INTERPOLATORS, INTERPOLATORS
from featlift.papers import afi_gan, registry
from featlift.papers.afi_gan.settings import STAGES, AdversarialConfig
from featlift.papers.registry import PAPERS
from featlift.training import OptimizerConfig
from featlift.training.schedules import StageConfig

QUICK = afi_gan.Settings.quick()


def tiny():
    """One or two steps per stage and no discriminator, which would take most of the time."""
    head = {"anchor_scale": 4.0, "fc_dim": 16, "num_proposals": 20}
    model = replace(
        QUICK.model,
        backbone="test_resnet",
        pyramid_channels=8,
        interpolator_options={"growth_rate": 4, "num_blocks": 1},
        detector_options=head,
    )
    stages = {name: StageConfig(1 + i % 2, OptimizerConfig(lr=0.01)) for i, name in enumerate(STAGES)}
    data = DataConfig(batch_size=2, min_size=(), num_workers=0, num_scenes=4, scene_size=64, num_val_scenes=3)
    return replace(QUICK, model=model, data=data, adversarial=AdversarialConfig(weight=0.0), **stages)


SINGLE = [name for name in INTERPOLATORS if name not in GUIDED_INTERPOLATORS]
LEARNED = [name for name in SINGLE if name not in ("nearest", "bilinear", "bicubic")]


@pytest.mark.parametrize(
    "name", [*SINGLE, *(f"{n}:plain" for n in INTERPOLATORS), *(f"{n}:distilled" for n in LEARNED)]
)
def test_all_candidates_take_as_many_steps(name):
    stages = (QUICK.interpolator, QUICK.extractor, QUICK.target)
    candidate = build_candidate(name, QUICK, "F.safetensors")
    assert candidate.steps == sum(stage.steps for stage in stages) == 400
    assert candidate.settings.model == replace(QUICK.model, interpolator=name.partition(":")[0])


@pytest.mark.parametrize("name", [f"{n}{mode}" for n in GUIDED_INTERPOLATORS for mode in ("", ":distilled")])
def test_what_reads_the_finer_level_is_only_trained_plain(name):
    with pytest.raises(ValueError, match=r"upsamples single maps of a pyramid.*featlift train baseline"):
        build_candidate(name, QUICK, "F.safetensors")


def test_what_cannot_learn_gets_its_steps_in_the_target():
    fixed, learned = (build_candidate(name, QUICK, "").settings for name in ("bilinear", "deconv"))
    assert not has_learned_interpolator(fixed.model)
    assert has_learned_interpolator(learned.model)
    assert (fixed.target.steps, learned.target.steps) == (340, 300)
    assert fixed.extractor == learned.extractor == QUICK.extractor


def test_all_start_from_the_same_detector():
    assert build_candidate("nearest:plain", QUICK, "F.safetensors").settings.init_from == "F.safetensors"
    assert build_candidate("afi", QUICK, "F.safetensors").settings.teacher_from == "F.safetensors"
    distilled = build_candidate("light:distilled", QUICK, "F.safetensors").settings
    assert (distilled.teachers_from, distilled.target_init) == (("F.safetensors",), "teacher")


def test_a_fixed_interpolator_is_not_distilled():
    with pytest.raises(ValueError, match="'nearest' has no parameters to distill"):
        build_candidate("nearest:distilled", QUICK, "")


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Folder and content of ``benchmark.json`` of three candidates with two seeds."""
    folder = tmp_path_factory.mktemp("benchmark")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(PAPERS["afi-gan"].presets, "quick", tiny)
        content = benchmark(
            ("nearest:plain", "afi", "light:distilled"), str(folder), num_seeds=2, device="cpu", n_resamples=20
        )
    return folder, content


def test_the_table_has_means_spreads_and_intervals(results):
    folder, content = results
    assert json.loads((folder / "benchmark.json").read_text()) == content
    first, second, third = content["tables"][0]["rows"]
    assert [row["interpolator"] for row in (first, second, third)] == ["nearest:plain", "afi", "light:distilled"]
    assert first["steps"] == second["steps"] == third["steps"] == 2 + 1 + 2
    assert second["parameters"] > first["parameters"]
    assert "±" in first["AP boxes"]
    assert not [name for name in first if name.startswith("Δ")]
    assert second["Δ AP boxes [95 % CI]"].count(",") == 1
    assert first["latency ratio"] == 1.0
    assert second["ms"] > 0
    assert (folder / "pareto.png").read_bytes().startswith(b"\x89PNG")
    page = (folder / "report.html").read_text()
    assert all(part in page for part in ("3 interpolators at equal budget", "Accuracy and latency", "gained and lost"))
    assert content["metadata"]["seed"] == "0, 1"
    assert "nearest:plain afi light:distilled" in content["metadata"]["command"]
    assert {"commit", "versions", "device", "date"} <= set(content["metadata"])


def test_every_run_took_its_steps(results):
    folder, _ = results
    for seed in (0, 1):
        result = lambda spec: json.loads((candidate_folder(folder / f"seed-{seed}", spec) / "result.json").read_text())  # noqa: B023, E731
        plain, staged, distilled = result("nearest:plain"), result("afi"), result("light:distilled")
        assert {name: stage["step"] for name, stage in plain["stages"].items()} == {"train": 5}
        assert {name: stage["step"] for name, stage in staged["stages"].items()} == {
            "interpolator": 2, "extractor": 1, "target": 2,
        }  # fmt: skip
        assert {name: stage["step"] for name, stage in distilled["stages"].items()} == {"interpolator": 2, "target": 3}
        assert plain["seed"] == staged["seed"] == distilled["seed"] == seed


def without_latency(content):
    """The rows without the latencies, which are measured again each time."""
    return [{k: v for k, v in row.items() if k not in ("ms", "latency ratio")} for row in content["tables"][0]["rows"]]


def test_the_same_folder_again_trains_nothing(results, monkeypatch):
    folder, content = results
    monkeypatch.setitem(PAPERS["afi-gan"].presets, "quick", tiny)
    monkeypatch.setattr(registry, "evaluate_and_report", lambda *_: pytest.fail("a finished run was done again"))
    again = benchmark(
        ("nearest:plain", "afi", "light:distilled"), str(folder), num_seeds=2, device="cpu", n_resamples=20
    )
    assert without_latency(again) == without_latency(content)
