"""Every test starts from the same random state, on one thread: two workers share two cores.

Tiny settings of detectors and trainings: 64 px scenes, 8 channels, one or two steps per stage; no backbone is downloaded.
"""

import contextlib
import os
from collections.abc import Callable
from dataclasses import replace
from functools import cache

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import detection
from torchvision.models.resnet import Bottleneck, ResNet

from featlift.cli import main
from featlift.data.config import DataConfig
from featlift.detectors.config import DetectorConfig
from featlift.papers import afi_gan, srf_gan
from featlift.papers.afi_gan.settings import STAGES
from featlift.training import OptimizerConfig, Run
from featlift.training.schedules import StageConfig

TINY = [
    "--preset", "quick", "--model.backbone", "test_resnet", "--data.batch_size", "2", "--train.steps", "1",
    "--model.pyramid_channels", "8", "--device", "cpu",
    "--model.detector_options", '{"anchor_scale": 4.0, "fc_dim": 16, "num_proposals": 20}',
]  # fmt: skip
"""Options of ``featlift train baseline`` for a detector that trains in seconds."""


@pytest.fixture(autouse=True)
def _same_start():
    torch.manual_seed(0)
    torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def _no_repeated_work():
    """Patch what takes long and is the same in every test.

    Files are not flushed to the disk, which no test can see (the tests of flushing replace ``os.fsync``, too). PyTorch's ONNX exporter
    builds its table of operators once, not in every export.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda file: None)
        with contextlib.suppress(ImportError):
            from torch.onnx._internal.exporter._registration import ONNXRegistry

            patch.setattr(ONNXRegistry, "from_torchlib", staticmethod(cache(ONNXRegistry.from_torchlib)))
        yield


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
        backbone="test_resnet",
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
def shallow_torchvision(monkeypatch: pytest.MonkeyPatch) -> None:
    """torchvision's detectors on "ResNet-50" have one block per stage instead of three to six."""
    for name in ("faster_rcnn", "mask_rcnn", "keypoint_rcnn", "retinanet", "fcos"):
        monkeypatch.setattr(f"torchvision.models.detection.{name}.resnet50", _shallow_resnet)


def _shallow_resnet(norm_layer: Callable[..., nn.Module] | None = None, **_: object) -> nn.Module:
    return ResNet(Bottleneck, [1, 1, 1, 1], norm_layer=norm_layer)


@pytest.fixture
def torchvision_detector(shallow_torchvision: None) -> Callable[[str], nn.Module]:
    def build(name: str) -> nn.Module:
        torch.manual_seed(0)
        few = {"score_thresh": 0.0, "detections_per_img": 3}
        if "rcnn" in name:
            few = {**{f"box_{option}": value for option, value in few.items()}, "rpn_post_nms_top_n_test": 20}
        build = getattr(detection, name)
        return build(weights=None, weights_backbone=None, num_classes=3, min_size=64, max_size=96, **few).eval()

    return build


# ---------------------------------------------------------------------------------------------------- a network like YOLOX


def _down(inputs: int, outputs: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride=2, padding=1), nn.BatchNorm2d(outputs), nn.SiLU())


def _block(inputs: int, outputs: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.SiLU())


class YOLOXNeck(nn.Module):
    """Backbone and neck with the module names of YOLOX's authors."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.ModuleDict(
            {
                "stem": _down(3, 6),
                "dark2": _down(6, 8),
                "dark3": _down(8, 8),
                "dark4": _down(8, 12),
                "dark5": _down(12, 16),
            }
        )
        for name, stage in self.backbone.items():
            setattr(self.backbone, name, stage)
        self.upsample = nn.Upsample(scale_factor=2, mode="nearest")
        self.lateral_conv0, self.C3_p4, self.reduce_conv1 = _block(16, 12), _block(24, 12), _block(12, 8)
        self.C3_p3, self.bu_conv2, self.C3_n3 = _block(16, 8), _down(8, 8), _block(16, 12)
        self.bu_conv1, self.C3_n4 = _down(12, 12), _block(24, 16)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """``[B, 3, H, W]`` → maps of strides 8, 16, 32."""
        maps = {}
        for name, stage in self.backbone.items():
            x = maps[name] = stage(x)
        top = self.lateral_conv0(x)
        middle = self.reduce_conv1(self.C3_p4(torch.cat([self.upsample(top), maps["dark4"]], 1)))
        p3 = self.C3_p3(torch.cat([self.upsample(middle), maps["dark3"]], 1))
        n3 = self.C3_n3(torch.cat([self.bu_conv2(p3), middle], 1))
        return p3, n3, self.C3_n4(torch.cat([self.bu_conv1(n3), top], 1))


class YOLOXHead(nn.Module):
    def __init__(self, num_classes: int = 3) -> None:
        super().__init__()
        self.strides, self.decode_in_inference = [8, 16, 32], True
        self.stems = nn.ModuleList(_block(channels, 8) for channels in (8, 12, 16))
        self.cls_convs, self.reg_convs = (nn.ModuleList(_block(8, 8) for _ in range(3)) for _ in range(2))
        self.cls_preds, self.reg_preds, self.obj_preds = (
            nn.ModuleList(nn.Conv2d(8, channels, 1) for _ in range(3)) for channels in (num_classes, 4, 1)
        )

    def forward(self, maps: tuple[Tensor, ...]) -> Tensor:
        """Three maps → decoded rows ``[B, N, 5 + K]``: center, sides (px), objectness, classes."""
        rows = []
        for level, (x, stride) in enumerate(zip(maps, self.strides, strict=True)):
            x = self.stems[level](x)
            boxes = self.reg_preds[level](self.reg_convs[level](x)).permute(0, 2, 3, 1)
            objectness = self.obj_preds[level](self.reg_convs[level](x)).permute(0, 2, 3, 1).sigmoid()
            classes = self.cls_preds[level](self.cls_convs[level](x)).permute(0, 2, 3, 1).sigmoid()
            ys, xs = torch.meshgrid(*(torch.arange(side) for side in x.shape[-2:]), indexing="ij")
            center, sides = (boxes[..., :2] + torch.stack([xs, ys], -1)) * stride, boxes[..., 2:].exp() * stride
            rows.append(torch.cat([center, sides, objectness, classes], -1).flatten(1, 2))
        return torch.cat(rows, 1)


class YOLOX(nn.Module):
    """A small network with the structure, module names and outputs of YOLOX."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone, self.head = YOLOXNeck(), YOLOXHead()

    def forward(self, x: Tensor) -> Tensor:
        """``[B, 3, H, W]`` → ``[B, N, 8]``."""
        return self.head(self.backbone(x))


@pytest.fixture
def yolox() -> nn.Module:
    """Weights so large that the outputs depend on the image."""
    torch.manual_seed(0)
    network = YOLOX().eval()
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
    return network
