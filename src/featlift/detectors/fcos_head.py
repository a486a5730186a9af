"""FCOS's head and its places, as published: a learned scale for each level, and cells that speak for their own center.

torchvision has neither: its cells speak for their upper left corner, and where p6 was rounded up also for a wrong one. Both are needed
to read published FCOS and CenterMask weights.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.fcos import FCOSClassificationHead, FCOSHead, FCOSRegressionHead

from featlift.features import level_stride


class CellCenterAnchors(AnchorGenerator):
    """One square of a cell's size on every cell, centered on it: (i + ½) · stride, however the picture was padded.

    Args:
        levels: names of the maps, fine → coarse.
    """

    def __init__(self, levels: Sequence[str]):
        sides = [level_stride(level) for level in levels]
        super().__init__(tuple((side,) for side in sides), ((1.0,),) * len(sides))  # type: ignore[arg-type]
        self.level_strides = sides
        self.cell_anchors = [square + side / 2 for square, side in zip(self.cell_anchors, sides, strict=True)]

    def grid_anchors(self, grid_sizes: list[list[int]], strides: list[list[Tensor]]) -> list[Tensor]:
        """(rows, columns) of each map → its squares ``[HW, 4]``; ``strides``, torchvision's guess from the picture's size, is not used."""
        exact = [
            [step.new_tensor(side) for step in pair] for pair, side in zip(strides, self.level_strides, strict=True)
        ]
        return super().grid_anchors(grid_sizes, exact)


class ScaledRegressionHead(FCOSRegressionHead):
    """The box tower: distances to the four sides in strides, ``relu(scale_level · conv)``, and centerness.

    Args:
        channels: C.
        num_levels: how many maps there are; each has a scale, which starts at 1.
    """

    def __init__(self, channels: int, num_levels: int):
        super().__init__(channels, num_anchors=1, norm_layer=group_norm)
        self.scales = nn.Parameter(torch.ones(num_levels))

    def forward(self, x: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Maps ``[B, C, H, W]``, one per level → distances ``[B, ΣHW, 4]`` and centerness logits ``[B, ΣHW, 1]``."""
        towers = [self.conv(level) for level in x]
        boxes = [(scale * self.bbox_reg(t)).relu() for scale, t in zip(self.scales, towers, strict=True)]
        return _flatten_maps(boxes), _flatten_maps([self.bbox_ctrness(tower) for tower in towers])


def fcos_head(channels: int, num_levels: int, num_classes: int) -> FCOSHead:
    """torchvision's FCOS head for ``num_classes`` and the unused background row, with :class:`ScaledRegressionHead`."""
    head = FCOSHead(channels, num_anchors=1, num_classes=num_classes + 1, num_convs=0)
    head.classification_head = FCOSClassificationHead(channels, 1, num_classes + 1, norm_layer=group_norm)
    head.regression_head = ScaledRegressionHead(channels, num_levels)
    return head


def group_norm(channels: int) -> nn.Module:
    """32 groups, as published; fewer in a head of less than 64 channels, so that a map of a single cell has a variance.

    Raises:
        ValueError: if ``channels`` is no multiple of the groups.
    """
    groups = min(32, max(1, channels // 2))
    if channels % groups:
        raise ValueError(
            f"FCOS normalizes in {groups} groups, but the pyramid has {channels} channels; give 64, 128 or 256."
        )
    return nn.GroupNorm(groups, channels)


def _flatten_maps(maps: Sequence[Tensor]) -> Tensor:
    return torch.cat([x.flatten(2).transpose(1, 2) for x in maps], dim=1)
