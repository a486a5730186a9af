"""Every test starts from the same random state, on one thread: two workers share two cores.

Tiny settings of detectors and trainings: 64 px scenes, 8 channels, one or two steps per stage; no backbone is downloaded.
"""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import nn
from torchvision.models import detection

from featlift.cli import main
from featlift.data.config import DataConfig
from featlift.detectors.config import DetectorConfig
from featlift.papers import afi_gan, srf_gan
from featlift.papers.afi_gan.settings import STAGES
from featlift.training import OptimizerConfig, Run
from featlift.training.schedules import StageConfig

TINY = [
    "--preset", "quick", "--data.batch_size", "2", "--train.steps", "1", "--model.pyramid_channels", "8", "--device", "cpu",
    "--model.detector_options", '{"anchor_scale": 4.0, "fc_dim": 16, "num_proposals": 20}',
]  # fmt: skip
"""Options of ``featlift train baseline`` for a detector that trains in seconds."""


@pytest.fixture(autouse=True)
def _same_start():
    torch.manual_seed(0)
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def coco(tmp_path_factory):
    """A COCO folder with two training and two validation images, written by ``featlift data generate``."""
    folder = tmp_path_factory.mktemp("images") / "coco"
    sizes = ["--num-train", "2", "--num-val", "2", "--image-size", "64"]
    assert main.main(["data", "generate", str(folder), *sizes]) == 0
    return folder


@pytest.fixture(scope="session")
def trained(coco, tmp_path_factory):
    """Run folders of two detectors trained on ``coco`` for one step, by interpolator name."""
    folder = tmp_path_factory.mktemp("runs")
    for name in ("nearest", "bilinear"):
        options = ["--run", str(folder / name), "--data", str(coco), "--model.interpolator", name, *TINY]
        assert main.main(["train", "baseline", *options]) == 0
    return {name: folder / name for name in ("nearest", "bilinear")}


@pytest.fixture
def marked():
    """``marked(height, width, seed)``: a dark image with one bright object, and its target."""
    return _marked


def _marked(height=64, width=96, seed=0):
    draw = torch.Generator().manual_seed(seed)
    left, top = (int(torch.randint(4, 20, (), generator=draw)) for _ in range(2))
    image, mask = torch.zeros(3, height, width), torch.zeros(1, height, width, dtype=torch.uint8)
    image[:, top : top + 16, left : left + 12] = 1
    mask[:, top : top + 16, left : left + 12] = 1
    boxes = torch.tensor([[left, top, left + 12, top + 16]], dtype=torch.float32)
    return image, {"boxes": boxes, "labels": torch.tensor([1]), "masks": mask, "area": torch.tensor([192.0])}


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


@pytest.fixture
def torchvision_detector() -> Callable[[str], nn.Module]:
    def build(name: str) -> nn.Module:
        torch.manual_seed(0)
        few = {"score_thresh": 0.0, "detections_per_img": 3}
        if "rcnn" in name:
            few = {**{f"box_{option}": value for option, value in few.items()}, "rpn_post_nms_top_n_test": 20}
        build = getattr(detection, name)
        return build(weights=None, weights_backbone=None, num_classes=3, min_size=64, max_size=96, **few).eval()

    return build
