"""FCOS head and anchors as published: a learned scale for each level, and anchors at cell centers.

torchvision has neither: its anchors are at the upper left corner of a cell, and misplaced where p6 was rounded up. Both are required to
load published FCOS and CenterMask weights.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.fcos import FCOSClassificationHead, FCOSHead, FCOSRegressionHead

from featlift.features import level_stride


class CellCenterAnchors(AnchorGenerator):
    """One square anchor of a cell's size at every cell center, (i + ½) · stride, independent of the padding.

    Args:
        levels: Names of the levels, fine → coarse.
    """

    def __init__(self, levels: Sequence[str]):
        strides = [level_stride(level) for level in levels]
        super().__init__(tuple((stride,) for stride in strides), ((1.0,),) * len(strides))  # type: ignore[arg-type]
        self.level_strides = strides
        self.cell_anchors = [anchor + stride / 2 for anchor, stride in zip(self.cell_anchors, strides, strict=True)]

    def grid_anchors(self, grid_sizes: list[list[int]], strides: list[list[Tensor]]) -> list[Tensor]:
        """(rows, columns) of each map → anchors ``[HW, 4]``; torchvision's ``strides``, estimated from the image size, are replaced."""
        level_strides = [
            [s.new_tensor(stride) for s in pair] for pair, stride in zip(strides, self.level_strides, strict=True)
        ]
        return super().grid_anchors(grid_sizes, level_strides)


class ScaledRegressionHead(FCOSRegressionHead):
    """Box tower: distances to the four sides in strides, ``relu(scale_level · conv)``, and centerness.

    Args:
        channels: Channels C.
        num_levels: Number of levels; each has a learned scale, initially 1.
    """

    def __init__(self, channels: int, num_levels: int):
        super().__init__(channels, num_anchors=1, norm_layer=group_norm)
        self.scales = nn.Parameter(torch.ones(num_levels))

    def forward(self, x: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Maps ``[B, C, H, W]``, one per level or the finest ones → distances ``[B, ΣHW, 4]`` and centerness logits ``[B, ΣHW, 1]``."""
        towers = [self.conv(level) for level in x]
        boxes = [(scale * self.bbox_reg(t)).relu() for scale, t in zip(self.scales, towers, strict=False)]
        return _flatten_maps(boxes), _flatten_maps([self.bbox_ctrness(tower) for tower in towers])


def fcos_head(channels: int, num_levels: int, num_classes: int, head_class: type[FCOSHead] = FCOSHead) -> FCOSHead:
    """Build torchvision's FCOS head for ``num_classes`` and the unused background class, with :class:`ScaledRegressionHead`."""
    head = head_class(channels, num_anchors=1, num_classes=num_classes + 1, num_convs=0)
    head.classification_head = FCOSClassificationHead(channels, 1, num_classes + 1, norm_layer=group_norm)
    head.regression_head = ScaledRegressionHead(channels, num_levels)
    return head


def group_norm(channels: int) -> nn.Module:
    """Build a group norm with 32 groups, as published; with fewer below 64 channels, so that a single cell has a variance.

    Raises:
        ValueError: If ``channels`` is no multiple of the number of groups.
    """
    groups = min(32, max(1, channels // 2))
    if channels % groups:
        raise ValueError(
            f"FCOS normalizes in {groups} groups, but the pyramid has {channels} channels; use 64, 128 or 256."
        )
    return nn.GroupNorm(groups, channels)


def _flatten_maps(maps: Sequence[Tensor]) -> Tensor:
    return torch.cat([x.flatten(2).transpose(1, 2) for x in maps], dim=1)
