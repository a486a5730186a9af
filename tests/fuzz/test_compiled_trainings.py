"""Whole trainings with compiled steps equal uncompiled ones, with ``make fuzz`` (``FEATLIFT_FUZZ=1``): tracing detectors takes minutes."""

import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from safetensors.torch import load_file
from tests.compiled_steps import MarkedImages, compile_steps
from tests.device_commands import COMMANDS, split_command, write_inputs
from torch import nn

from featlift.cli import main
from featlift.distillation.discriminator import PatchDiscriminator
from featlift.distillation.feature_pairs import DownscaleConfig
from featlift.interpolators.srf import SRF
from featlift.papers.afi_gan.training import pretrain_interpolator
from featlift.resolution import freeze

pytestmark = [
    pytest.mark.skipif(not os.environ.get("FEATLIFT_FUZZ"), reason="FEATLIFT_FUZZ is not set"),
    pytest.mark.timeout(1800),
]
TRAININGS = ("fsr-gan", "srf-gan", "afi-gan", "light", "efpn", "fdsr", "verbs")
STAGES = {
    "fsr-gan": {"generator"},
    "srf-gan": {"teacher", "interpolator", "extractor", "target"},
    "afi-gan": {"teacher", "interpolator", "extractor", "target"},
    "light": {"teacher", "interpolator", "target"},
    "efpn": {"detector", "extension", "head"},
    "fdsr": {"train", "super_resolver", "joint"},
    "verbs": {"train", "level"},
}

JOINT = (
    "train fdsr --preset quick --device cpu --data {coco} --feature-extractor.network {out}/baseline --data.crop-size 64 "
    "--data.batch-size 2 --train.steps 1 --network.name compact --detector-optimizer.lr 0.001 --run {out}/joint"
)
"""Joint training of FDSR's network and the detector, which `COMMANDS` lack."""
STEADY = {"generator", "interpolator", "level"}
"""Stages whose shapes depend on neither boxes nor detections: no step after the second is compiled."""


def train(name: str, places: dict[str, Path], out: Path) -> None:
    """Run the trainings of ``name`` in `COMMANDS`, three steps each, on the CPU."""
    for command in [*COMMANDS[name], *([JOINT] if name == "fdsr" else [])]:
        if command.startswith(("train", "upgrade", "add-level")):
            command = command.replace("--device other", "--device cpu").replace("--reuse none ", "")  # runs all stages
            command = re.sub(r"(steps) \d+", r"\1 3", command)
            assert main.main(split_command(command, {**places, "out": out})) == 0


@pytest.mark.parametrize("name", TRAININGS)
def test_every_stage(name, tmp_path):
    places = write_inputs(tmp_path)
    with compile_steps() as frames:
        train(name, places, tmp_path / "compiled")
    train(name, places, tmp_path / "eager")
    assert set(frames) >= STAGES[name]
    assert all(counts[0] > 0 for counts in frames.values())
    files = [file for file in (tmp_path / "eager").rglob("*.safetensors") if "cache" not in file.parts]
    assert files
    for file in files:
        compiled = load_file(tmp_path / "compiled" / file.relative_to(tmp_path / "eager"))
        torch.testing.assert_close(compiled, load_file(file), rtol=1e-4, atol=1e-6)
    assert all(counts[2] == 0 for stage, counts in frames.items() if stage in STEADY), frames


class OneLayer(nn.Module):
    """One layer with the interface of an extractor."""

    levels = ("p2",)

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.pyramid = nn.Conv2d(3, 4, 4, stride=4)
        self.register_buffer("mean", torch.zeros(1, 3, 1, 1))

    def forward(self, images):
        """``[B, 3, H, W]`` → p2."""
        return {"p2": self.pyramid(images)}


def test_patches_a_teacher_cache_and_independent_flips(run, settings, marked, tmp_path):
    config = settings("srf", steps=3, downscale=DownscaleConfig(same_flip=False))
    config = replace(config, adversarial=replace(config.adversarial, num_patches=1))

    def pretrain(name):
        folder, F = run(name=name), cast("Any", freeze(OneLayer()))
        G, D = nn.ModuleList([SRF(4, num_blocks=1)]), PatchDiscriminator(4, width_mult=1)
        cached = replace(config, teacher_cache=str(tmp_path / f"{name}-cache"))
        pretrain_interpolator(F, G, D, cached, cast("Any", MarkedImages(marked, (320, 320))), folder)
        return folder.read_log(), {**G.state_dict(), **D.state_dict()}

    with compile_steps() as frames:
        compiled_log, compiled = pretrain("compiled")
    log, eager = pretrain("eager")
    assert compiled_log == log
    for name, value in eager.items():
        torch.testing.assert_close(compiled[name], value, rtol=1e-6, atol=1e-7)
    assert frames["interpolator"][2] == 0
