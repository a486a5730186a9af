"""Compiled training steps equal uncompiled ones, and no step after the second is compiled again.

``tests/fuzz/test_compiled_trainings.py`` compiles the steps of whole trainings.
"""

from typing import Any, cast

import pytest
import torch
import torch.nn.functional as nnf
from tests.compiled_steps import MarkedImages, compile_steps
from torch import nn

from featlift.baseline.best_checkpoint import BestCheckpoint
from featlift.baseline.training import train_detector
from featlift.papers.fsr_gan import Settings
from featlift.papers.fsr_gan.settings import GANConfig
from featlift.papers.fsr_gan.training import build_generator, train_generator
from featlift.retrieval.descriptor_pairs import DescriptorPairs
from featlift.training import OptimizerConfig
from featlift.training.schedules import StageConfig

ADAM = OptimizerConfig("adam", 1e-3, weight_decay=0.0)


class TinyDetector(nn.Module):
    """Two layers with the interface of a detector in training."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(
            nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 1, 1)
        )

    def forward(self, images, targets):
        """Loss of the mean response at the objects."""
        maps = self.layers(torch.stack(images))
        return {"objects": nnf.softplus(maps).mean() + sum(t["boxes"].sum() for t in targets) / 1e4}


def same_training(train, steps):
    """Train twice, compiled and not; check that logs and parameters are equal, and return the compiled frames of each step."""
    with compile_steps() as frames:
        compiled_log, compiled = train("compiled")
    log, eager = train("eager")
    assert compiled_log == log
    for name, value in eager.items():
        torch.testing.assert_close(compiled[name], value, rtol=1e-6, atol=1e-7)
    (counts,) = frames.values()
    assert len(counts) == steps
    assert counts[0] > 0
    return counts


def test_a_detector(run, marked, monkeypatch):
    due = []
    monkeypatch.setattr(BestCheckpoint, "_evaluate", lambda self, step: due.append(step))

    def train(name):
        detector, folder = cast("Any", TinyDetector()), run(name=name)
        folder.evaluate_every = 2
        unused, loader = cast("Any", None), cast("Any", MarkedImages(marked, (32, 48)))
        best = BestCheckpoint(folder, detector, unused, unused, [])
        train_detector(detector, loader, StageConfig(5, ADAM), folder, "train", best)
        return folder.read_log(), detector.state_dict()

    counts = same_training(train, 5)
    assert counts[2:] == [0, 0, 0]
    assert due == [2, 4] * 2


@pytest.mark.parametrize("kind", ["gan", "wgan-gp"])
def test_fsr_gan(run, kind):
    torch.manual_seed(0)
    low = nnf.normalize(torch.rand(2, 12, 8), dim=2)
    pairs = DescriptorPairs((1, 4), low, low[0])
    settings = Settings(
        hidden_dim=8,
        ratios=(1, 4),
        steps=2,
        batch_size=4,
        optimizer=ADAM,
        generator="residual",
        adversarial=GANConfig(kind, n_critic=2),
    )

    def train(name):
        torch.manual_seed(0)
        G, folder = build_generator(settings, 8), run(name=name)
        train_generator(G, pairs, settings, folder)
        return folder.read_log(), G.state_dict()

    counts = same_training(train, 4)
    assert counts[2:] == [0, 0]
