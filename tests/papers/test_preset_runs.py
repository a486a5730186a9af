"""Three steps of every stage of every preset in the table `PAPERS`, with small networks and images; a new preset is tested by itself."""

from dataclasses import fields, is_dataclass, replace

import pytest
import torch

from featlift.detectors.checkpoint import save_detector
from featlift.detectors.config import build_detector
from featlift.papers.registry import PAPERS
from featlift.pyramids import BiFPN
from featlift.training.schedules import StageConfig

STEPS = 3
PRESETS = [(paper, preset) for paper, entry in PAPERS.items() for preset in entry.presets]

INTERPOLATOR_OPTIONS = {
    "afi": {"num_blocks": 1, "growth_rate": 4},
    "srf": {"num_blocks": 1},
}
NETWORK_OPTIONS = {"d-dbpn": {"stages": 2, "initial_channels": 8, "width": 4}}


def shrink_model(model, channels=8):
    """``model`` on a small backbone with few channels; what a preset chooses, such as detector, pyramid and norms of the heads, stays."""
    small = {"fc_dim": 16, "num_proposals": 20} if "rcnn" in model.detector else {}
    kept = {name: value for name, value in model.detector_options.items() if name != "test_size"}
    return replace(
        model,
        backbone="test_resnet",
        backbone_weights="random",
        norm="batch",
        frozen_stages=0,
        drop_path_rate=0.0,
        pyramid_channels=channels,
        pyramid="bifpn" if model.pyramid == "bifpn-7" else model.pyramid,
        interpolator_options=model.interpolator_options | INTERPOLATOR_OPTIONS.get(model.interpolator, {}),
        detector_options={**kept, **small},
    )


def shrink(settings, data, folder):
    """The settings with all that a preset chooses but sizes, lengths and published weights."""
    changes = {}
    for field in fields(settings):
        value = getattr(settings, field.name)
        if isinstance(value, StageConfig):
            changes[field.name] = replace(value, steps=STEPS)
    if hasattr(settings, "model"):
        is_sum = getattr(getattr(settings, "extended_level", None), "merge", "") == "sum"
        changes["model"] = shrink_model(settings.model, 32 if is_sum else 8)  # Eq. (1) of EFPN adds c2, which has 32
        changes["data"] = data(min_size=(64,), batch_size=2)
    if hasattr(settings, "adversarial") and hasattr(settings.adversarial, "width"):
        changes["adversarial"] = replace(settings.adversarial, width=1)
    if hasattr(settings, "extended_level") and settings.extended_level.transfer != "ftt-paper":
        options = {"hidden_channels": 8}
        changes["extended_level"] = replace(settings.extended_level, transfer="ftt", transfer_options=options)
    if hasattr(settings, "network"):
        changes |= shrink_super_resolution(settings, folder)
    if hasattr(settings, "vectors"):
        changes |= shrink_retrieval(settings, folder)
    return replace(settings, **changes)


def shrink_super_resolution(settings, folder):
    """FDSR: few channels, crops of the built-in scenes, and the features of a small detector."""
    model = shrink_model(PAPERS["baseline"].preset("quick").model)
    (folder / "detector").mkdir()
    save_detector(build_detector(model, 6), model, list("abcdef"), folder / "detector")
    return {
        "network": replace(settings.network, options=NETWORK_OPTIONS.get(settings.network.name, {})),
        "feature_extractor": replace(settings.feature_extractor, network=str(folder / "detector")),
        "data": replace(settings.data, root="scenes", crop_size=64, batch_size=2, num_images=4, num_workers=0),
    }


def shrink_retrieval(settings, folder):
    """FSR-GAN: vectors of 64 numbers instead of images and their encoder."""
    numpy = pytest.importorskip("numpy")
    shapes = {"low": (len(settings.ratios), 24, 64), "high": (24, 64)}
    for name, shape in shapes.items():
        numpy.save(folder / f"{name}.npy", torch.rand(shape).numpy())
    files = tuple(str(folder / f"{name}.npy") for name in shapes)
    return {"vectors": files, "steps": STEPS, "batch_size": 4, "hidden_dim": 8}


def chosen(settings):
    """The settings of a preset by name, as far as shrinking may not change them: those of the optimizers."""
    stages = {f.name: getattr(settings, f.name) for f in fields(settings)}
    optimizers = {name: stage.optimizer for name, stage in stages.items() if isinstance(stage, StageConfig)}
    return optimizers | {name: value for name, value in stages.items() if isinstance(value, str | bool)}


@pytest.mark.parametrize(("paper", "preset"), PRESETS)
def test_three_steps_of_every_stage(paper, preset, run, data, tmp_path, monkeypatch):
    monkeypatch.setattr(BiFPN, "size_divisible", 64)  # images are not padded to 128 px; p7 has one cell
    original = PAPERS[paper].preset(preset)
    assert is_dataclass(original)
    settings = shrink(original, data, tmp_path)
    assert chosen(settings) == chosen(original)
    with run(settings) as folder:
        result = PAPERS[paper].train(settings, folder)
        stages = {name: progress["step"] for name, progress in folder.stage_progress().items()}
    expected = {field.name for field in fields(settings) if isinstance(getattr(settings, field.name), StageConfig)}
    if len(expected) > 1:
        assert stages == dict.fromkeys(expected, STEPS)
    assert stages
    assert all(steps % STEPS == 0 for steps in stages.values())
    assert all(bool(torch.isfinite(p).all()) for p in result.parameters())
