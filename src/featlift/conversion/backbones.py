"""Backbones of Detectron2's published weights (`featlift.backbones.detectron2`), and the rules for their keys."""

import re
from collections.abc import Sequence

from torch import nn

from featlift.backbones import BACKBONE_LEVELS, Backbone
from featlift.backbones.detectron2 import SwinBackbone, detectron2_backbone
from featlift.conversion.rules import KeyRule

_NORM_TENSOR = r"(weight|bias|running_mean|running_var|num_batches_tracked)"


def detectron2_resnet(depth: int = 50, levels: Sequence[str] = BACKBONE_LEVELS) -> Backbone:
    """Create MSRA's ResNet with random weights: strides in the 1x1 convolutions, frozen up to c2, statistics for RGB in 0…1."""
    return detectron2_backbone(f"resnet{depth}", levels)


def detectron2_resnest(depth: int = 101, levels: Sequence[str] = BACKBONE_LEVELS) -> Backbone:
    """Create the ResNeSt of the papers' S-101 rows with random weights: batch norms frozen up to c2 only, statistics for RGB in 0…1."""
    return detectron2_backbone({50: "resnest50d", 101: "resnest101e"}[depth], levels, "batch")


def detectron2_swin(
    name: str = "swin_large_patch4_window12_384", levels: Sequence[str] = ("c3", "c4", "c5")
) -> SwinBackbone:
    """Create the Swin of the papers' rows with random weights: layer norm on every returned map, statistics of the published code."""
    backbone = detectron2_backbone(name, levels)
    assert isinstance(backbone, SwinBackbone)
    return backbone


def backbone_rules(backbone: Backbone | SwinBackbone) -> list[KeyRule]:
    """Return the rules that map the keys below ``bottom_up.`` to ``backbone``.

    Raises:
        ValueError: If it is neither a ResNet nor a ResNeSt nor a :class:`SwinBackbone`, or a ResNet with strides in the 3x3 convolutions.
    """
    if isinstance(backbone, SwinBackbone):
        return _swin_rules()
    network = backbone.network
    if not hasattr(network, "layer4"):
        raise ValueError(
            "Published backbone weights exist for ResNet, ResNeSt and, built with featlift.conversion.detectron2_swin(), Swin; load other "
            "backbones with weights from timm."
        )
    if isinstance(network.conv1, nn.Sequential):
        return [*_deep_stem_rules(), *_split_attention_rules(), *_residual_block_rules("downsample.1", "downsample.2")]
    if network.get_submodule("layer2.0").conv1.stride != (2, 2):
        raise ValueError(
            "These weights have the stride of each stage in its first 1x1 convolution, this backbone in the 3x3 convolution, "
            "which would cost several AP. Build the backbone with featlift.conversion.detectron2_resnet()."
        )
    first = KeyRule(r"stem\.conv1\.weight", "network.conv1.weight", lambda x: x.flip(1), "input channels BGR → RGB")
    return [
        first,
        KeyRule(r"stem\.conv1\.norm\." + _NORM_TENSOR, r"network.bn1.\1"),
        *_residual_block_rules("downsample.0", "downsample.1"),
    ]


def _residual_block_rules(shortcut: str, shortcut_norm: str) -> list[KeyRule]:
    block = r"res(\d)\.(\d+)\."
    return [
        KeyRule(block + r"shortcut\.weight", lambda m: f"{_block_path(m)}.{shortcut}.weight"),
        KeyRule(block + r"shortcut\.norm\." + _NORM_TENSOR, lambda m: f"{_block_path(m)}.{shortcut_norm}.{m[3]}"),
        KeyRule(block + r"conv([123])\.weight", lambda m: f"{_block_path(m)}.conv{m[3]}.weight"),
        KeyRule(block + r"conv([123])\.norm\." + _NORM_TENSOR, lambda m: f"{_block_path(m)}.bn{m[3]}.{m[4]}"),
    ]


def _block_path(match: re.Match[str]) -> str:
    return f"network.layer{int(match[1]) - 1}.{match[2]}"


def _deep_stem_rules() -> list[KeyRule]:
    return [
        KeyRule(r"stem\.conv1_([123])\.weight", lambda m: f"network.conv1.{3 * int(m[1]) - 3}.weight"),
        KeyRule(r"stem\.conv1_([12])\.norm\." + _NORM_TENSOR, lambda m: f"network.conv1.{3 * int(m[1]) - 2}.{m[2]}"),
        KeyRule(r"stem\.conv1_3\.norm\." + _NORM_TENSOR, r"network.bn1.\1"),
    ]


def _split_attention_rules() -> list[KeyRule]:
    conv2 = r"res(\d)\.(\d+)\.conv2\."
    return [
        KeyRule(conv2 + r"conv\.weight", lambda m: f"{_block_path(m)}.conv2.conv.weight"),
        KeyRule(conv2 + r"(fc1|fc2)\.(weight|bias)", lambda m: f"{_block_path(m)}.conv2.{m[3]}.{m[4]}"),
        KeyRule(conv2 + r"(bn0|bn1)\." + _NORM_TENSOR, lambda m: f"{_block_path(m)}.conv2.{m[3]}.{m[4]}"),
    ]


def _swin_rules() -> list[KeyRule]:
    """Rules for torchvision's blocks: a stage is an odd layer, the downsampling at its end the layer after it."""
    rest, block = r"\.(.+)", r"layers\.(\d)\.blocks\.(\d+)\."
    return [
        KeyRule(
            block + r"(attn\.relative_position_index)",
            lambda m: f"network.{2 * int(m[1]) + 1}.{m[2]}.{m[3]}",
            lambda index: index.flatten(),
            "flattened",
        ),
        KeyRule(
            block + r"mlp\.fc([12])" + rest,
            lambda m: f"network.{2 * int(m[1]) + 1}.{m[2]}.mlp.{3 * int(m[3]) - 3}.{m[4]}",
        ),
        KeyRule(block + r"(.+)", lambda m: f"network.{2 * int(m[1]) + 1}.{m[2]}.{m[3]}"),
        KeyRule(r"layers\.(\d)\.downsample" + rest, lambda m: f"network.{2 * int(m[1]) + 2}.{m[2]}"),
        KeyRule(r"patch_embed\.proj" + rest, r"network.0.0.\1"),
        KeyRule(r"patch_embed\.norm" + rest, r"network.0.2.\1"),
        KeyRule(r"norm(\d)" + rest, lambda m: f"output_norms.c{int(m[1]) + 2}.{m[2]}"),
    ]
