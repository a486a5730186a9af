"""The zoo: YOLOX, LibreYOLO, RF-DETR."""

import importlib
from functools import partial
from typing import Any

from tests.integrations.zoo import ZooEntry
from torch import nn

from featlift.upgrading.wrappers import unwrap_module


def yolox_model() -> nn.Module:
    from yolox.models import YoloPafpn, YoloxHead, YoloxModule

    return YoloxModule(YoloPafpn(0.33, 0.125, depthwise=True), YoloxHead(3, 0.125, depthwise=True))


def yolo_fpn() -> nn.Module:
    from yolox.models.yolo_fpn import YoloFpn

    return YoloFpn(depth=21)


def libreyolo_model(package: str, name: str, **options: Any) -> nn.Module:
    return getattr(importlib.import_module(f"libreyolo.models.{package}.nn"), name)(**options)


def pp_yoloe() -> nn.Module:
    """The last convolutions start at zero, which passes no gradients on; here they are random, as after a training step."""
    network = libreyolo_model("ppyoloe", "LibrePPYOLOEModel", size="s", nb_classes=3)
    for parameter in network.head.parameters():
        if parameter.dim() == 4 and parameter.requires_grad and not parameter.any():
            nn.init.normal_(parameter, std=0.01)
    return network


def rfdetr_model() -> nn.Module:
    from rfdetr import RFDETRNano

    return unwrap_module(RFDETRNano(pretrain_weights=None))


LIBREYOLO = partial(ZooEntry, package="libreyolo", module="libreyolo")

ENTRIES = (
    ZooEntry("YOLOX", "pixeltable-yolox", "yolox", yolox_model, 2, "backbone", source="`YoloPafpn.forward`"),
    ZooEntry("YoloFpn", "pixeltable-yolox", "yolox", yolo_fpn, 2, "", source="`YoloFpn.forward`"),
    LIBREYOLO(
        name="YOLOX",
        build=partial(libreyolo_model, "yolox", "LibreYOLOXModel", config="n", nb_classes=3),
        steps=2,
        neck="backbone",
        source="`YOLOXPAFPN.forward`",
    ),
    LIBREYOLO(
        name="YOLO9",
        build=partial(libreyolo_model, "yolo9", "LibreYOLO9Model", config="t", reg_max=16, nb_classes=3),
        steps=2,
        neck="neck",
        source="`yolo9/nn.py`: `up1`, `up2`",
    ),
    LIBREYOLO(
        name="PP-YOLOE",
        build=pp_yoloe,
        steps=2,
        neck="neck",
        source="`ppyoloe/nn.py`",
    ),
    LIBREYOLO(
        name="RT-DETR",
        build=partial(
            libreyolo_model,
            "rtdetr",
            "RTDETRModel",
            num_classes=3,
            hidden_dim=32,
            num_queries=10,
            num_decoder_layers=1,
            dim_feedforward=32,
            num_denoising=0,
        ),
        steps=2,
        neck="encoder",
        source="`HybridEncoder.forward`",
    ),
    LIBREYOLO(
        name="RTMDet",
        build=partial(libreyolo_model, "rtmdet", "LibreRTMDetModel", size="t", nc=3),
        steps=2,
        neck="neck",
        source="`CSPNeXtPAFPN.forward`",
    ),
    LIBREYOLO(
        name="PicoDet",
        build=partial(libreyolo_model, "picodet", "LibrePICODETModel", size="s", nb_classes=3),
        steps=2,
        neck="neck",
        source="`CSPPAN.forward`",
    ),
    ZooEntry("RF-DETR Nano", "rfdetr", "rfdetr", rfdetr_model, 0, sizes=((384, 384),), note="one map"),
)
