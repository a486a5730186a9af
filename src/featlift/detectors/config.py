"""Configuration of a detector, and the functions that build it."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn

from featlift import detectors
from featlift.backbones import Backbone
from featlift.backbones.detectron2 import SwinBackbone, detectron2_backbone
from featlift.detectors import Detector
from featlift.detectors.norms import norm_layer
from featlift.interpolators import build_interpolators, interpolator
from featlift.interpolators.execution import EXECUTION_MODES
from featlift.registry import check_choice

BACKBONE_LAYOUTS = ("timm", "detectron2")
SHARING_MODES = ("paper", "shared", "each")


@dataclass(frozen=True)
class DetectorConfig:
    """Configuration of a detector.

    Attributes:
        detector: Detector: "faster-rcnn", "mask-rcnn", "retinanet", "fcos", … (`featlift list detectors`).
        backbone: Name of a timm model.
        backbone_weights: Initial weights of the backbone: "imagenet" (timm's, downloaded once), "random", or the path of a file.
        norm: Batch-norm layers of the backbone: "frozen", "batch", "sync" or "group".
        frozen_stages: Number of frozen backbone stages: 2 freezes the stem and c2, 0 nothing.
        mean_std: Mean and standard deviation of the images, one number each for all three channels; None for timm's values.
        pyramid_channels: Channels C of the pyramid.
        pyramid: Pyramid: "fpn", "pafpn", "bifpn", …
        pyramid_norm: Normalization after the pyramid's convolutions: "none" (that of a BiFPN stays its own), "batch", "sync" or "group".
        interpolator: Interpolator of the pyramid's upsampling steps (`featlift list interpolators`).
        interpolator_options: Arguments of the interpolator, such as {"growth_rate": 16}.
        interpolator_sharing: Interpolators of the upsampling steps: "paper" (as in the papers: AFI, SRF and light are shared, other
            learned ones are one per step), "shared" (one for all steps) or "each" (one per step).
        execution: Execution of the interpolators in training: "eager", "checkpointed" (less memory, more time) or "compiled".
        detector_options: Arguments of the detector: anchor_scale, fc_dim, num_proposals, test_size, max_detections (100); of Cascade R-CNN
            also num_convs and norm of the heads.
        drop_path_rate: Maximum drop-path rate of the backbone in training (0.2 for Swin).
        backbone_layout: "timm", or "detectron2": strides and image statistics of Detectron2's published ResNets and ResNeSts, for their
            weights (`featlift import`).
    """

    detector: str = "mask-rcnn"
    backbone: str = "resnet50"
    backbone_weights: str = "imagenet"
    norm: str = "frozen"
    frozen_stages: int = 2
    mean_std: tuple[float, float] | None = None
    pyramid_channels: int = 256
    pyramid: str = "fpn"
    pyramid_norm: str = "none"
    interpolator: str = "nearest"
    interpolator_options: dict[str, Any] = field(default_factory=dict)
    interpolator_sharing: str = "paper"
    execution: str = "eager"
    detector_options: dict[str, Any] = field(default_factory=lambda: {"test_size": [800, 1333]})
    drop_path_rate: float = 0.0
    backbone_layout: str = "timm"

    def __post_init__(self) -> None:
        """Fail early on a configuration that cannot be built, before earlier stages are trained."""
        check_choice(self.interpolator_sharing, SHARING_MODES, "interpolator_sharing")
        check_choice(self.execution, EXECUTION_MODES, "execution")
        check_choice(self.backbone_layout, BACKBONE_LAYOUTS, "backbone_layout")
        norm_layer(self.pyramid_norm)
        with torch.device("meta"):
            build_pyramid_interpolators(self)


CONV_HEADS = {"num_convs": 4, "norm": "sync"}
"""Detector options of the box heads of the papers' ResNeSt and Swin rows: four convolutions with synchronized batch norm and one layer."""


def swin_detector_config(interpolator: str = "nearest") -> DetectorConfig:
    """Return Cascade R-CNN on a Swin-T and a BiFPN of seven layers, without frozen backbone stages; anchors of 32 … 512 px on p3 … p7."""
    return DetectorConfig(
        detector="cascade-rcnn",
        backbone="swin_tiny_patch4_window7_224",
        frozen_stages=0,
        pyramid="bifpn-7",
        pyramid_norm="sync",
        interpolator=interpolator,
        detector_options={"test_size": [800, 1333], "anchor_scale": 4.0, **CONV_HEADS},
        drop_path_rate=0.2,
    )


def resnest_detector_config(interpolator: str = "nearest") -> DetectorConfig:
    """Return Cascade Mask R-CNN on a ResNeSt-101 and an FPN, with synchronized batch norm in backbone, pyramid and heads."""
    return DetectorConfig(
        detector="cascade-mask-rcnn",
        backbone="resnest101e",
        norm="sync",
        pyramid_norm="sync",
        interpolator=interpolator,
        detector_options={"test_size": [800, 1333], **CONV_HEADS},
    )


def finetune_detector_config(interpolator: str = "nearest") -> DetectorConfig:
    """Return a Faster R-CNN on an ImageNet-pretrained ResNet-50 with an FPN, for images of one's own; up to 300 detections each."""
    options = {"test_size": [800, 1333], "max_detections": 300}
    return DetectorConfig(detector="faster-rcnn", interpolator=interpolator, detector_options=options)


def quick_detector_config(interpolator: str = "nearest") -> DetectorConfig:
    """Return a Faster R-CNN with 64 channels on a ResNet-10 with random weights; anchors of 16 … 256 px."""
    return DetectorConfig(
        detector="faster-rcnn",
        backbone="resnet10t",
        backbone_weights="random",
        norm="batch",
        frozen_stages=0,
        pyramid_channels=64,
        interpolator=interpolator,
        detector_options={"anchor_scale": 4.0, "fc_dim": 128, "num_proposals": 100},
    )


def build_detector(
    config: DetectorConfig, num_classes: int, interpolators: Sequence[nn.Module] | None = None
) -> Detector:
    """Build the detector of ``config`` for ``num_classes`` classes; its pyramid uses ``interpolators``, or new ones.

    Raises:
        ValueError: If the configuration names an unknown component or is inconsistent.
    """
    return build_on_backbone(build_backbone(config), config, num_classes, interpolators)


def build_backbone(config: DetectorConfig) -> Backbone | SwinBackbone:
    """Build the backbone of ``config``, with the levels that its detector and its pyramid use."""
    levels = detectors.backbone_levels(config.detector, config.pyramid)
    if config.backbone_layout == "detectron2":
        return detectron2_backbone(config.backbone, levels, config.norm, config.frozen_stages)
    pretrained = {"imagenet": True, "random": False}.get(config.backbone_weights, config.backbone_weights)
    mean_std = None if config.mean_std is None else ([config.mean_std[0]] * 3, [config.mean_std[1]] * 3)
    return Backbone(
        config.backbone, levels, config.norm, pretrained, mean_std, config.frozen_stages, config.drop_path_rate
    )


def build_on_backbone(
    backbone: Backbone | SwinBackbone,
    config: DetectorConfig,
    num_classes: int,
    interpolators: Sequence[nn.Module] | None = None,
) -> Detector:
    """Build pyramid, interpolators (``interpolators``, or new ones) and heads on ``backbone``; see :func:`build_detector`."""
    extractor = detectors.extractor(
        config.detector,
        backbone,
        interpolators or build_pyramid_interpolators(config),
        config.pyramid_channels,
        config.pyramid,
        norm_layer(config.pyramid_norm),
    )
    return detectors.detector(config.detector, extractor, num_classes, **config.detector_options)


def build_pyramid_interpolators(config: DetectorConfig) -> list[nn.Module]:
    """Build new interpolators for the pyramid of ``config``: one shared by all steps, or one per step, coarse → fine."""
    name, channels, options = config.interpolator, config.pyramid_channels, config.interpolator_options
    num_steps = detectors.num_upsampling_steps(config.detector, config.pyramid)
    if config.interpolator_sharing == "each":
        modules = [interpolator(name, channels, **options) for _ in range(num_steps)]
    else:
        num_steps = 1 if config.interpolator_sharing == "shared" else num_steps
        modules = build_interpolators(name, channels, num_steps, **options)
    return [EXECUTION_MODES[config.execution](module) for module in modules]


def replace_detector(model: DetectorConfig, detector: str) -> DetectorConfig:
    """Return ``model`` with another ``detector``, with only its test size and number of detections; unchanged if ``detector`` is empty."""
    if detector in ("", model.detector):
        return model
    kept = ("test_size", "max_detections")
    options = {name: value for name, value in model.detector_options.items() if name in kept}
    return replace(model, detector=detector, detector_options=options)
