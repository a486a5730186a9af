"""The zoo: torchvision, timm, segmentation_models_pytorch, effdet."""

import re
from functools import partial
from typing import Any

from tests.integrations.zoo import ANY_SIZES, ZooEntry, noise
from torch import Tensor, nn


def torchvision_rcnn(kind: str) -> nn.Module:
    """On a ResNet-10, with 64 channels in the pyramid and narrow heads for boxes and masks."""
    from torchvision.models import detection, resnet
    from torchvision.models.detection.backbone_utils import BackboneWithFPN
    from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
    from torchvision.models.detection.mask_rcnn import MaskRCNNPredictor
    from torchvision.ops.feature_pyramid_network import LastLevelMaxPool, LastLevelP6P7

    one_stage = kind in ("RetinaNet", "FCOS")
    layers, extra = ((2, 3, 4), LastLevelP6P7(64, 64)) if one_stage else ((1, 2, 3, 4), LastLevelMaxPool())
    names, channels = {f"layer{layer}": str(layer) for layer in layers}, [32 * 2**layer for layer in layers]
    body = resnet.ResNet(resnet.BasicBlock, [1, 1, 1, 1])
    backbone = BackboneWithFPN(body, names, channels, 64, extra_blocks=extra)
    options: dict[str, Any] = {"min_size": 64, "max_size": 256}
    if one_stage:
        return getattr(detection, kind)(backbone, 3, score_thresh=0.0, detections_per_img=5, **options)
    options |= {
        "box_head": TwoMLPHead(64 * 7**2, 32),
        "box_predictor": FastRCNNPredictor(32, 3),
        "rpn_post_nms_top_n_test": 20,
    }
    if kind == "MaskRCNN":
        options["mask_predictor"] = MaskRCNNPredictor(256, 32, 3)
    return getattr(detection, kind)(backbone, box_score_thresh=0.0, box_detections_per_img=5, **options)


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

    return getattr(smp, name)("tu-test_resnet", encoder_weights=None, classes=5, **SMALL_DECODERS.get(name, {}))


def efficientdet(size: tuple[int, int] = (256, 256)) -> ZooEntry:
    """EfficientDet for images of ``size``; its resampling layers have the sizes of its maps as constants."""
    return ZooEntry(
        "EfficientDet-Lite0",
        "effdet",
        "effdet",
        partial(effdet_model, size),
        12,
        "fpn.cell",
        (size,),
        source="BiFPN: 4 in each of 3 cells",
        note="a network is built for one image size, a multiple of 128 px; networks for five sizes are tested",
    )


def effdet_model(size: tuple[int, int]) -> nn.Module:
    from effdet import create_model

    return create_model(
        "tf_efficientdet_lite0", pretrained=False, pretrained_backbone=False, num_classes=3, image_size=size
    )


def list_of_images(size: tuple[int, int]) -> list[Tensor]:
    return [noise(size)[0]]


def torchvision_entry(name: str, module: str, builder: str, note: str = "") -> ZooEntry:
    """A network without steps, by its builder; a detector takes lists of images."""
    inputs = list_of_images if module == "detection" else None
    return TORCHVISION(
        name=name, build=partial(torchvision_model, module, builder), steps=0, make_inputs=inputs, note=note
    )


def smp_entry(name: str, steps: int, neck: str = "", source: str = "", note: str = "", kind: str = "") -> ZooEntry:
    sizes = PAN_SIZES if name == "PAN" else ZooEntry.sizes
    return ZooEntry(name, SMP, SMP, partial(smp_model, kind or name), steps, neck, sizes, source=source, note=note)


TORCHVISION = partial(ZooEntry, package="torchvision", module="torchvision", sizes=ANY_SIZES)
SMP = "segmentation_models_pytorch"
SMALL_DECODERS: dict[str, dict[str, Any]] = {
    **{name: {"decoder_channels": (32, 16, 16, 8, 8)} for name in ("Unet", "UnetPlusPlus", "MAnet")},
    "FPN": {"decoder_pyramid_channels": 32, "decoder_segmentation_channels": 64},
    "UPerNet": {"decoder_channels": 32},
    "Segformer": {"decoder_segmentation_channels": 32},
}
FPN = "`FeaturePyramidNetwork`"
PAN_SIZES = ((128, 128), (128, 160), (160, 128), (128, 192), (192, 128))
RCNNS = {"Faster R-CNN": 3, "Mask R-CNN": 3, "RetinaNet": 2, "FCOS": 2}
"""Name of the detector → number of levels above the coarsest."""

ENTRIES = (
    *(
        TORCHVISION(
            name=name,
            build=partial(torchvision_rcnn, re.sub(r"[ -]", "", name)),
            source=FPN,
            steps=steps,
            neck="backbone.fpn",
            make_inputs=list_of_images,
        )
        for name, steps in RCNNS.items()
    ),
    TORCHVISION(
        name="LR-ASPP",
        build=partial(torchvision_model, "segmentation", "lraspp_mobilenet_v3_large"),
        source="`LRASPPHead`",
        steps=1,
        neck="classifier",
        sizes=ZooEntry.sizes,
    ),
    TORCHVISION(name="own FPN", build=partial(own_fpn, False), source=FPN, steps=2, neck="1"),
    TORCHVISION(name="subclass of FPN", build=partial(own_fpn, True), source=FPN, steps=2, neck="1"),
    ZooEntry("features_only and FPN", "timm", "timm", TimmFPN, 2, "fpn", ANY_SIZES, source=FPN),
    smp_entry("Unet", 5, "decoder.blocks", "`unet/decoder.py`, one per block"),
    smp_entry("Unet++", 11, "decoder.blocks", "`unetplusplus/decoder.py`, one per block", kind="UnetPlusPlus"),
    smp_entry("MAnet", 5, "decoder.blocks", "`manet/decoder.py`, one per block"),
    smp_entry("FPN", 9, "decoder", "`fpn/decoder.py`", "3 of the pyramid and 6 of the segmentation blocks"),
    smp_entry("UPerNet", 4, "decoder", "`upernet/decoder.py`", "3 of the pyramid and 1 of the fusion"),
    smp_entry("PAN", 2, "decoder", "`GAUBlock`", "its three poolings need 128 px"),
    smp_entry("Segformer", 1, "decoder", "`segformer/decoder.py`"),
    efficientdet(),
    torchvision_entry("SSD", "detection", "ssd300_vgg16"),
    torchvision_entry("SSDlite", "detection", "ssdlite320_mobilenet_v3_large"),
    torchvision_entry(
        "Faster R-CNN MobileNet",
        "detection",
        "fasterrcnn_mobilenet_v3_large_320_fpn",
        "both of its levels have stride 32",
    ),
    torchvision_entry("DeepLabV3", "segmentation", "deeplabv3_mobilenet_v3_large"),
    smp_entry("Linknet", 0, note="transposed convolutions are learned already"),
    smp_entry("PSPNet", 0),
    smp_entry("DeepLabV3", 0),
    smp_entry("DeepLabV3+", 0, kind="DeepLabV3Plus"),
)
