"""Tiny versions of the three stages: 64 px scenes, 8 channels, one or two steps per stage; no backbone is downloaded."""

from dataclasses import replace

import pytest

from featlift.data.config import DataConfig
from featlift.detectors.config import DetectorConfig
from featlift.papers import afi_gan, srf_gan
from featlift.papers.afi_gan.settings import STAGES
from featlift.training import OptimizerConfig, Run
from featlift.training.schedules import StageConfig

HEAD = {"anchor_scale": 4.0, "fc_dim": 16, "num_proposals": 20}
SETTINGS = {"afi": afi_gan.Settings, "srf": srf_gan.Settings}


def tiny_model(interpolator="afi", detector="faster-rcnn", **options):
    head = HEAD if detector.endswith("rcnn") else {}
    return DetectorConfig(
        detector=detector,
        backbone="resnet10t",
        backbone_weights="random",
        norm="batch",
        frozen_stages=0,
        pyramid_channels=8,
        interpolator=interpolator,
        interpolator_options=options,
        detector_options=head,
    )


def tiny_data(**changes):
    return replace(
        DataConfig(batch_size=2, min_size=(), num_workers=0, num_scenes=4, scene_size=64, num_val_scenes=2), **changes
    )


def tiny_stage(steps=1):
    return StageConfig(steps, OptimizerConfig("sgd", lr=0.01))


def tiny_settings(interpolator="afi", steps=1, **changes):
    """Settings of the paper that ``interpolator`` belongs to, with every stage ``steps`` long."""
    options = {"afi": {"growth_rate": 4, "num_blocks": 1}, "srf": {"num_blocks": 1}}.get(interpolator, {})
    stages = {name: tiny_stage(steps) for name in STAGES}
    config = SETTINGS.get(interpolator, afi_gan.Settings)(
        model=tiny_model(interpolator, **options), data=tiny_data(), **stages
    )
    return replace(config, **changes)


@pytest.fixture
def settings():
    return tiny_settings


@pytest.fixture
def model():
    return tiny_model


@pytest.fixture
def data():
    return tiny_data


@pytest.fixture
def stage():
    return tiny_stage


@pytest.fixture
def run(tmp_path):
    """A new run folder for ``settings``."""

    def make(settings=None, name="run", **options):
        return Run(tmp_path / name, settings, device="cpu", log_every=1, **options)

    return make
