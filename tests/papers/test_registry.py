"""The table of papers: its presets can be built, and it agrees with the command line's."""

import inspect
from dataclasses import replace

import pytest
import torch
from torch import nn

from featlift.backbones import timm_backbone
from featlift.baseline.training import train_detector
from featlift.cli import verbs
from featlift.commands import evaluate as evaluate_command
from featlift.data.config import build_dataset, build_train_loader
from featlift.detectors.config import build_detector
from featlift.papers import registry
from featlift.papers.registry import PAPERS, Paper
from featlift.runs import presets
from featlift.runs.detector_evaluation import evaluate_detector_file

PRESETS = [(name, preset) for name, paper in PAPERS.items() for preset in paper.presets]
STAGED = [name for name, paper in PAPERS.items() if paper.stages]


def test_the_command_line_has_the_same_papers_and_summaries():
    assert {name: paper.summary for name, paper in PAPERS.items()} == verbs.PAPERS


@pytest.mark.parametrize(("name", "preset"), PRESETS)
def test_every_preset_gives_settings_of_its_paper(name, preset):
    assert preset in presets.PRESETS
    assert isinstance(PAPERS[name].preset(preset), PAPERS[name].settings)


@pytest.mark.parametrize("name", PAPERS)
def test_every_classmethod_that_returns_settings_is_a_preset(name):
    paper = PAPERS[name]
    makers = {key for key, _ in inspect.getmembers(paper.settings, inspect.ismethod) if not key.startswith("_")}
    assert makers | {"paper"} == set(paper.presets) - {"recommended"}


def test_an_unknown_preset_names_the_others():
    with pytest.raises(ValueError, match=r"Unknown preset 'fast'.* Choose one of: paper, quick, short"):
        PAPERS["fdsr"].preset("fast")


# ------------------------------------------------------------------------------------------------------- finetune

FINETUNE = [name for name, paper in PAPERS.items() if "finetune" in paper.presets]


@pytest.mark.parametrize("name", FINETUNE)
def test_finetune_is_a_faster_rcnn_on_a_pretrained_resnet_50(name):
    settings = PAPERS[name].preset("finetune")
    assert (settings.model.detector, settings.model.backbone) == ("faster-rcnn", "resnet50")
    assert settings.model.backbone_weights == "imagenet"
    assert settings.data.batch_size == 4


def test_finetune_asks_timm_for_weights_and_trains_a_step(run, stage, monkeypatch):
    """Nothing is downloaded: timm builds the ResNet-50 with random weights instead."""
    create, asked = timm_backbone.create_timm_model, []

    def without_download(name, pretrained, **options):
        asked.append((name, pretrained))
        return create(name, False, **options)

    monkeypatch.setattr(timm_backbone, "create_timm_model", without_download)
    settings = PAPERS["baseline"].preset("finetune")
    data = replace(settings.data, num_scenes=2, scene_size=64, batch_size=1, min_size=(64,), max_size=64, num_workers=0)
    detector = build_detector(settings.model, 6)
    assert ("resnet50", True) in asked
    loader = build_train_loader(data, build_dataset(data), 0)
    with run(settings) as folder:
        train_detector(detector, loader, stage(), folder, "train")
        assert folder.stage_progress()["train"]["step"] == 1


# ------------------------------------------------------------------------------------------------------- training


def fake_paper(**changes):
    """A paper whose training returns what it was told, and the arguments of its evaluation."""
    evaluated = []
    paper = Paper(
        "a test",
        dict,
        lambda settings, run, *stop_after: (settings, run, *stop_after),
        (),
        evaluate=lambda model, settings, run, name: evaluated.append((model, name)) or {"name": name},
        **changes,
    )
    return paper, evaluated


def test_a_paper_without_stages_is_trained_and_evaluated():
    paper, evaluated = fake_paper()
    assert paper.run("settings", "run", "target", "x") == {"name": "x"}
    assert evaluated == [(("settings", "run"), "x")]


@pytest.mark.parametrize(
    ("stop_after", "stage", "name"),
    [("", "target", "x"), ("target", "target", "x"), ("teacher", "teacher", "x, teacher")],
)
def test_the_name_of_a_result_says_after_which_stage_it_stopped(stop_after, stage, name):
    paper, evaluated = fake_paper(stages=("teacher", "interpolator", "target"))
    assert paper.run("settings", "run", stop_after, "x") == {"name": name}
    assert evaluated == [(("settings", "run", stage), name)]


def test_after_the_interpolator_there_is_nothing_to_evaluate():
    paper, evaluated = fake_paper(stages=("teacher", "interpolator", "target"))
    assert paper.run("settings", "run", "interpolator", "x") == {}
    assert not evaluated


@pytest.mark.parametrize("name", STAGED)
def test_stages_are_fields_of_the_settings(name):
    settings = PAPERS[name].preset("quick")
    assert all(getattr(settings, stage).steps for stage in PAPERS[name].stages)


def test_detectors_are_evaluated_on_the_validation_images_of_their_settings(monkeypatch):
    seen = []
    monkeypatch.setattr(registry, "evaluate_and_report", lambda *arguments: seen.append(arguments) or {})
    settings, detector = PAPERS["afi-gan"].preset("quick"), nn.Identity()
    PAPERS["afi-gan"].evaluate(detector, settings, "run", "afi-gan")
    assert seen == [(detector, settings.data, "run", "afi-gan")]


# ------------------------------------------------------------------------------------------------------- evaluation


@pytest.mark.parametrize("name", PAPERS)
def test_a_run_is_evaluated_as_its_paper_says(name, tmp_path, monkeypatch):
    asked = []
    fake = replace(PAPERS[name], evaluate_run=lambda *arguments: asked.append(arguments) or {"ap": 1})
    monkeypatch.setitem(PAPERS, name, fake)
    (tmp_path / "settings.json").write_text(f'{{"paper": "{name}"}}')
    assert evaluate_command.evaluate(str(tmp_path), "scenes", "train", "out.json") == {"ap": 1}
    ((run, data, split, out, inference),) = asked
    assert (run, data, split, out) == (str(tmp_path), "scenes", "train", "out.json")
    assert torch.device(inference.device).type in ("cpu", "cuda")


def test_runs_with_a_detector_are_evaluated_alike():
    others = {name for name, paper in PAPERS.items() if paper.evaluate_run is not evaluate_detector_file}
    assert others == {"fsr-gan", "fdsr"}
