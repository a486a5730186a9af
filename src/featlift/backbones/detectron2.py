"""ResNets, ResNeSts and Swins as in Detectron2's published weights.

MSRA's ResNets differ from torchvision's in two respects; confusing them costs several AP. Their images are BGR in 0…255 with standard
deviation 1: the statistics here are scaled, so images stay RGB in 0…1 (the conversion of weights reverses the input channels of the first
convolution). The stride of a stage is in the first 1x1 convolution of its first block instead of the 3x3.

Swins of detectors have a layer norm on every map that they return; see :class:`SwinBackbone`.
"""

import re
from collections.abc import Sequence

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn
from torchvision.models import SwinTransformer

from featlift.backbones.timm_backbone import BACKBONE_LEVELS, Backbone
from featlift.checkpoints.init_args import store_init_args
from featlift.features import Features, level_stride

MSRA_MEAN_STD = ([123.675 / 255, 116.28 / 255, 103.53 / 255], [1 / 255] * 3)
RESNEST_MEAN_STD = ([123.68 / 255, 116.779 / 255, 103.939 / 255], [58.393 / 255, 57.12 / 255, 57.375 / 255])
SWIN_MEAN_STD = (MSRA_MEAN_STD[0], [58.393 / 255, 57.12 / 255, 57.375 / 255])


SWIN_SIZES: dict[str, tuple[int, tuple[int, ...], tuple[int, ...]]] = {
    "swin_tiny": (96, (2, 2, 6, 2), (3, 6, 12, 24)),
    "swin_small": (96, (2, 2, 18, 2), (3, 6, 12, 24)),
    "swin_base": (128, (2, 2, 18, 2), (4, 8, 16, 32)),
    "swin_large": (192, (2, 2, 18, 2), (6, 12, 24, 48)),
}
"""Beginning of timm's name → channels of c2, blocks of each stage, and attention heads of each stage."""


@store_init_args()
class SwinBackbone(nn.Module):
    """Swin of a detector, from torchvision's blocks: a layer norm on every returned map, maps padded before their windows are shifted.

    timm's blocks shift first, and not at all in the last stage of a network for 224 px, which gives other maps.

    Args:
        name: timm's name, such as "swin_large_patch4_window12_384"; its image size has no effect.
        levels: Levels to return, fine → coarse.

    Raises:
        ValueError: If ``name`` is no such Swin.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, name: str, levels: Sequence[str] = BACKBONE_LEVELS):
        super().__init__()
        match = re.fullmatch(r"(swin_[a-z]+)_patch4_window(\d+)_\d+", name)
        if match is None or match[1] not in SWIN_SIZES:
            sizes = ", ".join(SWIN_SIZES)
            raise ValueError(
                f"'{name}' is no Swin of Detectron2's layout; its names are {sizes} + _patch4_window12_384 or the like."
            )
        width, depths, num_heads = SWIN_SIZES[match[1]]
        window = [int(match[2])] * 2
        self.network = SwinTransformer([4, 4], width, list(depths), list(num_heads), window, num_classes=1).features
        self.levels = tuple(levels)
        self.channels = {level: width * level_stride(level) // 4 for level in self.levels}
        self.output_norms = nn.ModuleDict({level: nn.LayerNorm(channels) for level, channels in self.channels.items()})
        self.register_buffer("mean", torch.tensor(SWIN_MEAN_STD[0]).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(SWIN_MEAN_STD[1]).view(1, 3, 1, 1), persistent=False)

    def forward(self, image: Tensor) -> Features:
        """``[B, 3, H, W]`` in 0…1 → ``{"c2": [B, C2, ⌈H/4⌉, ⌈W/4⌉], …}``, normalized over channels at every position."""
        height, width = image.shape[-2:]
        x, maps = nnf.pad((image - self.mean) / self.std, (0, -width % 4, 0, -height % 4)), {}
        for number, layer in enumerate(self.network):
            x = layer(x)
            level = f"c{number // 2 + 2}"
            if number % 2 and level in self.levels:
                maps[level] = self.output_norms[level](x).permute(0, 3, 1, 2).contiguous()
        return maps


def detectron2_backbone(
    name: str, levels: Sequence[str] = BACKBONE_LEVELS, norm: str = "frozen", frozen_stages: int = 2
) -> Backbone | SwinBackbone:
    """Create the timm ResNet, ResNeSt or Swin ``name`` with random weights, Detectron2's strides and its statistics for RGB in 0…1.

    Args:
        name: "resnet50", "resnet101", "resnest50d", "resnest101e", "swin_large_patch4_window12_384", ….
        levels: Levels to return, fine → coarse.
        norm: Treatment of batch norms, see `Backbone`; a Swin has none.
        frozen_stages: Number of frozen stages; a Swin has none.

    Raises:
        ValueError: If ``name`` is neither a ResNet, a ResNeSt nor a Swin.
    """
    if name.startswith("swin_"):
        return SwinBackbone(name, levels)
    if name.startswith("resnest"):
        return Backbone(name, levels, norm, mean_std=RESNEST_MEAN_STD, frozen_stages=frozen_stages)
    if not name.startswith("resnet"):
        raise ValueError(
            f"Detectron2's layout is known for ResNet, ResNeSt and Swin, not for '{name}'; use timm's layout."
        )
    backbone = Backbone(name, levels, norm, mean_std=MSRA_MEAN_STD, frozen_stages=frozen_stages)
    for stage in ("layer2", "layer3", "layer4"):
        block = backbone.network.get_submodule(f"{stage}.0")
        block.conv1.stride, block.conv2.stride = (2, 2), (1, 1)
    return backbone
