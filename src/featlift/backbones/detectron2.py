"""ResNets and ResNeSts as in Detectron2's published weights.

MSRA's ResNets differ from torchvision's in two respects; confusing them costs several AP. Their images are BGR in 0…255 with standard
deviation 1: the statistics here are scaled, so images stay RGB in 0…1 (the conversion of weights reverses the input channels of the first
convolution). The stride of a stage is in the first 1x1 convolution of its first block instead of the 3x3.
"""

from collections.abc import Sequence

from featlift.backbones.timm_backbone import BACKBONE_LEVELS, Backbone

MSRA_MEAN_STD = ([123.675 / 255, 116.28 / 255, 103.53 / 255], [1 / 255] * 3)
RESNEST_MEAN_STD = ([123.68 / 255, 116.779 / 255, 103.939 / 255], [58.393 / 255, 57.12 / 255, 57.375 / 255])


def detectron2_backbone(
    name: str, levels: Sequence[str] = BACKBONE_LEVELS, norm: str = "frozen", frozen_stages: int = 2
) -> Backbone:
    """Create the timm ResNet or ResNeSt ``name`` with random weights, Detectron2's strides and its statistics for RGB in 0…1.

    Args:
        name: "resnet50", "resnet101", "resnest50d", "resnest101e".
        levels: Levels to return, fine → coarse.
        norm: Treatment of batch norms, see `Backbone`.
        frozen_stages: Number of frozen stages.

    Raises:
        ValueError: If ``name`` is neither a ResNet nor a ResNeSt.
    """
    if name.startswith("resnest"):
        return Backbone(name, levels, norm, mean_std=RESNEST_MEAN_STD, frozen_stages=frozen_stages)
    if not name.startswith("resnet"):
        raise ValueError(f"Detectron2's layout is known for ResNet and ResNeSt, not for '{name}'; use timm's layout.")
    backbone = Backbone(name, levels, norm, mean_std=MSRA_MEAN_STD, frozen_stages=frozen_stages)
    for stage in ("layer2", "layer3", "layer4"):
        block = backbone.network.get_submodule(f"{stage}.0")
        block.conv1.stride, block.conv2.stride = (2, 2), (1, 1)
    return backbone
