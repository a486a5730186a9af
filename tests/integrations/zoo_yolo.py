"""The zoo: YOLOX, LibreYOLO, RF-DETR."""

import importlib
from collections.abc import Callable
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


def rfdetr_model(name: str) -> nn.Module:
    import rfdetr

    return unwrap_module(getattr(rfdetr, name)(pretrain_weights=None))


RTDETR = {
    "num_classes": 3,
    "hidden_dim": 32,
    "num_queries": 10,
    "num_decoder_layers": 1,
    "dim_feedforward": 32,
    "num_denoising": 0,
}
LIBREYOLO = partial(ZooEntry, package="libreyolo", module="libreyolo", steps=2)
RFDETR = partial(ZooEntry, package="rfdetr", module="rfdetr", steps=0)
YOLO9_CALLS = "`yolo9/nn.py`: `up1`, `up2`"
BUILDERS: dict[str, tuple[Callable[[], nn.Module], str, str]] = {
    "YOLOX": (partial(libreyolo_model, "yolox", "LibreYOLOXModel", config="n", nb_classes=3), "backbone", "`YOLOXPAFPN.forward`"),
    "YOLO9": (partial(libreyolo_model, "yolo9", "LibreYOLO9Model", config="t", reg_max=16, nb_classes=3), "neck", YOLO9_CALLS),
    "PP-YOLOE": (pp_yoloe, "neck", "`ppyoloe/nn.py`"),
    "RT-DETR": (partial(libreyolo_model, "rtdetr", "RTDETRModel", **RTDETR), "encoder", "`HybridEncoder.forward`"),
    "RTMDet": (partial(libreyolo_model, "rtmdet", "LibreRTMDetModel", size="t", nc=3), "neck", "`CSPNeXtPAFPN.forward`"),
    "PicoDet": (partial(libreyolo_model, "picodet", "LibrePICODETModel", size="s", nb_classes=3), "neck", "`CSPPAN.forward`"),
}  # fmt: skip
"""LibreYOLO's networks: function that builds it, neck, and where its two calls are."""

ENTRIES = (
    ZooEntry("YOLOX", "pixeltable-yolox", "yolox", yolox_model, 2, "backbone", source="`YoloPafpn.forward`"),
    ZooEntry("YoloFpn", "pixeltable-yolox", "yolox", yolo_fpn, 2, "", source="`YoloFpn.forward`"),
    *(LIBREYOLO(name=name, build=build, neck=neck, source=source) for name, (build, neck, source) in BUILDERS.items()),
    RFDETR(name="RF-DETR Nano", build=partial(rfdetr_model, "RFDETRNano"), sizes=((384, 384),), note="one map"),
    RFDETR(
        name="RF-DETR Seg Nano",
        build=partial(rfdetr_model, "RFDETRSegNano"),
        sizes=((312, 312),),
        note="one map, and masks at three times its size",
    ),
)
