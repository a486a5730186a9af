"""The zoo: torchvision, timm, segmentation_models_pytorch, effdet."""

from functools import partial

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


def list_of_images(size: tuple[int, int]) -> list[Tensor]:
    return [noise(size)[0]]


TORCHVISION = partial(ZooEntry, package="torchvision", module="torchvision", sizes=ANY_SIZES)
SMP = partial(ZooEntry, package="segmentation_models_pytorch", module="segmentation_models_pytorch")
RCNN = partial(TORCHVISION, make_inputs=list_of_images)

ENTRIES = (
    RCNN(
        name="Faster R-CNN",
        build=partial(torchvision_rcnn, "FasterRCNN"),
        source="`FeaturePyramidNetwork`",
        steps=3,
        neck="backbone.fpn",
    ),
    RCNN(
        name="Mask R-CNN",
        build=partial(torchvision_rcnn, "MaskRCNN"),
        source="`FeaturePyramidNetwork`",
        steps=3,
        neck="backbone.fpn",
    ),
    RCNN(
        name="RetinaNet",
        build=partial(torchvision_rcnn, "RetinaNet"),
        source="`FeaturePyramidNetwork`",
        steps=2,
        neck="backbone.fpn",
    ),
    RCNN(
        name="FCOS",
        build=partial(torchvision_rcnn, "FCOS"),
        source="`FeaturePyramidNetwork`",
        steps=2,
        neck="backbone.fpn",
    ),
    TORCHVISION(
        name="LR-ASPP",
        build=partial(torchvision_model, "segmentation", "lraspp_mobilenet_v3_large"),
        source="`LRASPPHead`",
        steps=1,
        neck="classifier",
        sizes=((128, 128), (64, 96), (192, 160), (160, 224), (224, 64)),
    ),
    TORCHVISION(name="own FPN", build=partial(own_fpn, False), source="`FeaturePyramidNetwork`", steps=2, neck="1"),
    TORCHVISION(
        name="subclass of FPN", build=partial(own_fpn, True), source="`FeaturePyramidNetwork`", steps=2, neck="1"
    ),
    ZooEntry("features_only and FPN", "timm", "timm", TimmFPN, 2, "fpn", ANY_SIZES, source="`FeaturePyramidNetwork`"),
    SMP(
        name="Unet",
        build=partial(smp_model, "Unet"),
        source="`unet/decoder.py`, one per block",
        steps=5,
        neck="decoder.blocks",
    ),
    SMP(
        name="Unet++",
        build=partial(smp_model, "UnetPlusPlus"),
        source="`unetplusplus/decoder.py`, one per block",
        steps=11,
        neck="decoder.blocks",
    ),
    SMP(
        name="MAnet",
        build=partial(smp_model, "MAnet"),
        source="`manet/decoder.py`, one per block",
        steps=5,
        neck="decoder.blocks",
    ),
    SMP(
        name="FPN",
        build=partial(smp_model, "FPN"),
        source="`fpn/decoder.py`",
        steps=9,
        neck="decoder",
        note="3 of the pyramid and 6 of the segmentation blocks",
    ),
    SMP(
        name="UPerNet",
        build=partial(smp_model, "UPerNet"),
        source="`upernet/decoder.py`",
        steps=4,
        neck="decoder",
        note="3 of the pyramid and 1 of the fusion",
    ),
    SMP(
        name="PAN",
        build=partial(smp_model, "PAN"),
        source="`GAUBlock`",
        steps=2,
        neck="decoder",
        sizes=((128, 128), (128, 160), (192, 160), (160, 224), (224, 128)),
        note="its three poolings need 128 px",
    ),
    SMP(
        name="Segformer",
        build=partial(smp_model, "Segformer"),
        source="`segformer/decoder.py`",
        steps=1,
        neck="decoder",
    ),
    ZooEntry(
        "EfficientDet-Lite0",
        "effdet",
        "effdet",
        effdet_model,
        12,
        "fpn.cell",
        ((256, 256),),
        source="BiFPN: 4 in each of 3 cells",
        note="built for one image size",
    ),
    RCNN(name="SSD", build=partial(torchvision_model, "detection", "ssd300_vgg16"), steps=0),
    RCNN(name="SSDlite", build=partial(torchvision_model, "detection", "ssdlite320_mobilenet_v3_large"), steps=0),
    RCNN(
        name="Faster R-CNN MobileNet",
        build=partial(torchvision_model, "detection", "fasterrcnn_mobilenet_v3_large_320_fpn"),
        steps=0,
        note="both of its levels have stride 32",
    ),
    TORCHVISION(
        name="DeepLabV3", build=partial(torchvision_model, "segmentation", "deeplabv3_mobilenet_v3_large"), steps=0
    ),
    SMP(
        name="Linknet", build=partial(smp_model, "Linknet"), steps=0, note="transposed convolutions are learned already"
    ),
    SMP(name="PSPNet", build=partial(smp_model, "PSPNet"), steps=0),
    SMP(name="DeepLabV3", build=partial(smp_model, "DeepLabV3"), steps=0),
    SMP(name="DeepLabV3+", build=partial(smp_model, "DeepLabV3Plus"), steps=0),
)
