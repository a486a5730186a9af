"""Three steps of every stage of the papers' presets, with a small backbone, few channels and two images of 64 px."""

from dataclasses import fields, replace

import pytest
import torch

from featlift.papers.registry import PAPERS
from featlift.training.schedules import StageConfig

PRESETS = [("baseline", name) for name in ("paper", "dense", "resnest", "transformer")]
PRESETS += [("efpn", name) for name in ("paper", "coco", "official", "recommended")]
PRESETS += [("afi-gan", name) for name in ("resnest", "transformer")]


def shrink(settings, data):
    """The settings with all that a preset chooses but sizes and lengths."""
    small = {"fc_dim": 16, "num_proposals": 20} if "rcnn" in settings.model.detector else {}
    kept = {name: value for name, value in settings.model.detector_options.items() if name != "test_size"}
    model = replace(
        settings.model,
        backbone="resnet10t",
        backbone_weights="random",
        norm="batch",
        frozen_stages=0,
        drop_path_rate=0.0,
        pyramid_channels=64,  # those of c2, which Eq. (1) of EFPN adds
        pyramid="bifpn" if settings.model.pyramid == "bifpn-7" else settings.model.pyramid,
        detector_options={**kept, **small},
    )
    if model.interpolator == "afi":
        model = replace(model, interpolator_options={"num_blocks": 1, "growth_rate": 4})
    stages = {
        field.name: replace(stage, steps=3)
        for field in fields(settings)
        if isinstance(stage := getattr(settings, field.name), StageConfig)
    }
    changes = {"adversarial": replace(settings.adversarial, width=1)} if hasattr(settings, "adversarial") else {}
    if hasattr(settings, "extended_level") and settings.extended_level.transfer != "ftt-paper":
        options = {"hidden_channels": 8}
        changes["extended_level"] = replace(settings.extended_level, transfer="ftt", transfer_options=options)
    return replace(settings, model=model, data=data(min_size=(64,), batch_size=2), **stages, **changes)


@pytest.mark.parametrize(("paper", "preset"), PRESETS)
def test_three_steps_of_every_stage(paper, preset, run, data):
    settings = shrink(PAPERS[paper].preset(preset), data)
    with run(settings) as folder:
        result = PAPERS[paper].train(settings, folder)
        stages = set(folder.stage_progress())
    expected = {field.name for field in fields(settings) if isinstance(getattr(settings, field.name), StageConfig)}
    assert stages == expected
    assert all(bool(torch.isfinite(p).all()) for p in result.parameters())
