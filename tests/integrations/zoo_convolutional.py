"""The zoo: torchvision, timm, segmentation_models_pytorch, effdet, YOLOX, LibreYOLO, and small networks with the calls of mmdet's."""

from functools import partial
from typing import Any

import torch
from tests.integrations.zoo import ANY_SIZES, ZooEntry, noise
from torch import Tensor, nn


def torchvision_rcnn(kind: str) -> nn.Module:
    from torchvision.models import detection
    from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
    from torchvision.ops.feature_pyramid_network import LastLevelMaxPool, LastLevelP6P7

    one_stage = kind in ("RetinaNet", "FCOS")
    layers, extra = ([2, 3, 4], LastLevelP6P7(256, 256)) if one_stage else ([1, 2, 3, 4], LastLevelMaxPool())
    backbone = resnet_fpn_backbone(backbone_name="resnet18", weights=None, returned_layers=layers, extra_blocks=extra)
    options = {
        "score_thresh" if one_stage else "box_score_thresh": 0.0,
        "detections_per_img" if one_stage else "box_detections_per_img": 5,
    }
    return getattr(detection, kind)(backbone, num_classes=3, min_size=64, max_size=256, **options)


def torchvision_model(module: str, name: str) -> nn.Module:
    from torchvision import models

    builder = getattr(getattr(models, module), name)
    return builder(weights=None, weights_backbone=None, num_classes=4)


def own_fpn(subclass: bool) -> nn.Module:
    from torchvision.models import resnet18
    from torchvision.models._utils import IntermediateLayerGetter
    from torchvision.ops import FeaturePyramidNetwork

    class MyFPN(FeaturePyramidNetwork):
        """A subclass with its own ``forward``."""

        def forward(self, x: dict[str, Tensor]) -> dict[str, Tensor]:
            return {name: y.relu() for name, y in super().forward(x).items()}

    body = IntermediateLayerGetter(resnet18(), {"layer2": "c3", "layer3": "c4", "layer4": "c5"})
    return nn.Sequential(body, (MyFPN if subclass else FeaturePyramidNetwork)([128, 256, 512], 16))


class TimmFPN(nn.Module):
    """timm's ``features_only`` network with torchvision's FPN."""

    def __init__(self) -> None:
        super().__init__()
        import timm
        from torchvision.ops import FeaturePyramidNetwork

        self.body = timm.create_model("resnet10t", features_only=True, out_indices=(2, 3, 4))
        self.fpn = FeaturePyramidNetwork(self.body.feature_info.channels(), 16)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return self.fpn(dict(zip(("c3", "c4", "c5"), self.body(x), strict=True)))


def smp_model(name: str) -> nn.Module:
    import segmentation_models_pytorch as smp

    return getattr(smp, name)("resnet18", encoder_weights=None, classes=5)


def effdet_model() -> nn.Module:
    from effdet import create_model

    return create_model(
        "tf_efficientdet_lite0", pretrained=False, pretrained_backbone=False, num_classes=3, image_size=(256, 256)
    )


def yolox_model() -> nn.Module:
    from yolox.models import YoloPafpn, YoloxHead, YoloxModule

    return YoloxModule(YoloPafpn(0.33, 0.125, depthwise=True), YoloxHead(3, 0.125, depthwise=True))


def yolo_fpn() -> nn.Module:
    from yolox.models.yolo_fpn import YoloFpn

    return YoloFpn(depth=21)


def libreyolo_model(package: str, name: str, **options: Any) -> nn.Module:
    import importlib

    return getattr(importlib.import_module(f"libreyolo.models.{package}.nn"), name)(nb_classes=3, **options)


class SharedUpsampleNeck(nn.Module):
    """The calls of mmdet's ``CSPNeXtPAFPN`` (RTMDet) and of PicoDet's ``CSPPAN``: one ``nn.Upsample`` for both top-down steps.

    Args:
        channels: Channels of the three levels, fine → coarse; PicoDet's are equal.
    """

    def __init__(self, channels: tuple[int, int, int]) -> None:
        super().__init__()
        c3, c4, c5 = channels
        self.stages = nn.ModuleList([nn.Conv2d(3, c3, 8, 8), nn.Conv2d(c3, c4, 2, 2), nn.Conv2d(c4, c5, 2, 2)])
        self.upsample = nn.Upsample(scale_factor=2, mode="nearest")
        self.reduce_layers = nn.ModuleList([nn.Conv2d(c5, c4, 1), nn.Conv2d(c4, c3, 1)])
        self.top_down_blocks = nn.ModuleList([nn.Conv2d(2 * c4, c4, 3, padding=1), nn.Conv2d(2 * c3, c3, 3, padding=1)])

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        maps = []
        for stage in self.stages:
            maps.append(x := stage(x))
        outputs = [maps.pop()]
        for reduce, block in zip(self.reduce_layers, self.top_down_blocks, strict=True):
            high = reduce(outputs[0])
            outputs.insert(0, block(torch.cat([self.upsample(high), maps.pop()], 1)))
        return tuple(outputs)


def list_of_images(size: tuple[int, int]) -> list[Tensor]:
    return [noise(size)[0]]


TORCHVISION = partial(ZooEntry, package="torchvision", module="torchvision", sizes=ANY_SIZES)
SMP = partial(ZooEntry, package="segmentation_models_pytorch", module="segmentation_models_pytorch")
RCNN = partial(TORCHVISION, make_inputs=list_of_images)
LIBREYOLO = partial(ZooEntry, package="libreyolo", module="libreyolo")
LOCAL = partial(
    ZooEntry,
    package="torch",
    module="torch",
    note="mmdet cannot be installed here: a small network with the same calls",
)

ENTRIES = (
    RCNN(name="Faster R-CNN", build=partial(torchvision_rcnn, "FasterRCNN"), steps=3, neck="backbone.fpn"),
    RCNN(name="Mask R-CNN", build=partial(torchvision_rcnn, "MaskRCNN"), steps=3, neck="backbone.fpn"),
    RCNN(name="RetinaNet", build=partial(torchvision_rcnn, "RetinaNet"), steps=2, neck="backbone.fpn"),
    RCNN(name="FCOS", build=partial(torchvision_rcnn, "FCOS"), steps=2, neck="backbone.fpn"),
    TORCHVISION(name="LR-ASPP", build=partial(torchvision_model, "segmentation", "lraspp_mobilenet_v3_large"), steps=1, neck="classifier",
                sizes=((128, 128), (64, 96), (192, 160), (160, 224), (224, 64))),
    TORCHVISION(name="own FPN", build=partial(own_fpn, False), steps=2, neck="1"),
    TORCHVISION(name="subclass of FPN", build=partial(own_fpn, True), steps=2, neck="1"),
    ZooEntry("features_only and FPN", "timm", "timm", TimmFPN, 2, "fpn", ANY_SIZES),
    SMP(name="Unet", build=partial(smp_model, "Unet"), steps=5, neck="decoder.blocks"),
    SMP(name="Unet++", build=partial(smp_model, "UnetPlusPlus"), steps=11, neck="decoder.blocks"),
    SMP(name="MAnet", build=partial(smp_model, "MAnet"), steps=5, neck="decoder.blocks"),
    SMP(name="FPN", build=partial(smp_model, "FPN"), steps=9, neck="decoder", note="3 of the pyramid and 6 of the segmentation blocks"),
    SMP(name="UPerNet", build=partial(smp_model, "UPerNet"), steps=4, neck="decoder", note="3 of the pyramid and 1 of the fusion"),
    SMP(name="PAN", build=partial(smp_model, "PAN"), steps=2, neck="decoder"),
    SMP(name="Segformer", build=partial(smp_model, "Segformer"), steps=1, neck="decoder"),
    ZooEntry("EfficientDet-Lite0", "effdet", "effdet", effdet_model, 12, "fpn", ((256, 256),), note="built for one image size"),
    ZooEntry("YOLOX", "pixeltable-yolox", "yolox", yolox_model, 2, "backbone"),
    ZooEntry("YoloFpn", "pixeltable-yolox", "yolox", yolo_fpn, 2, ""),
    LIBREYOLO(name="YOLOX", build=partial(libreyolo_model, "yolox", "LibreYOLOXModel", config="n"), steps=2, neck="backbone"),
    LIBREYOLO(name="YOLO9", build=partial(libreyolo_model, "yolo9", "LibreYOLO9Model", config="t", reg_max=16), steps=2, neck="neck"),
    LIBREYOLO(name="PP-YOLOE", build=partial(libreyolo_model, "ppyoloe", "LibrePPYOLOEModel", size="s"), steps=2, neck="neck"),
    LOCAL(name="RTMDet's calls", build=partial(SharedUpsampleNeck, (8, 12, 16)), steps=2, neck=""),
    LOCAL(name="PicoDet's calls", build=partial(SharedUpsampleNeck, (8, 8, 8)), steps=2, neck=""),
    RCNN(name="SSD", build=partial(torchvision_model, "detection", "ssd300_vgg16"), steps=0),
    RCNN(name="SSDlite", build=partial(torchvision_model, "detection", "ssdlite320_mobilenet_v3_large"), steps=0),
    RCNN(name="Faster R-CNN MobileNet", build=partial(torchvision_model, "detection", "fasterrcnn_mobilenet_v3_large_320_fpn"), steps=0,
         note="both of its levels have stride 32"),
    TORCHVISION(name="DeepLabV3", build=partial(torchvision_model, "segmentation", "deeplabv3_mobilenet_v3_large"), steps=0),
    SMP(name="Linknet", build=partial(smp_model, "Linknet"), steps=0, note="transposed convolutions are learned already"),
    SMP(name="PSPNet", build=partial(smp_model, "PSPNet"), steps=0),
    SMP(name="DeepLabV3", build=partial(smp_model, "DeepLabV3"), steps=0),
    SMP(name="DeepLabV3+", build=partial(smp_model, "DeepLabV3Plus"), steps=0),
)  # fmt: skip
