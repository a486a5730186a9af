"""RoI pooling and anchors with Detectron2's half-pixel alignment, for detectors built from torchvision's modules.

torchvision samples RoIs half a cell too far right and down and rounds anchors to whole pixels; Detectron2, which the papers used, does
neither. Weights trained one way lose some AP the other way, so it is an option of the detector and stored with it.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.ops import roi_align

from featlift.detectors.fcos_head import CellCenterAnchors
from featlift.detectors.rcnn import PyramidRoIAlign
from featlift.features import Features


class AlignedRoIAlign(nn.Module):
    """:class:`~featlift.detectors.rcnn.PyramidRoIAlign` with ``aligned=True``: sampling points are at pixel centers.

    Args:
        pooling: Pooling whose levels, output size and number of sampling points are used.
    """

    def __init__(self, pooling: PyramidRoIAlign):
        super().__init__()
        self.featmap_names, self.output_size = pooling.featmap_names, pooling.output_size
        self.sampling_ratio, self.scales, self.map_levels = pooling.sampling_ratio, pooling.scales, pooling.map_levels

    def forward(self, x: Features, boxes: list[Tensor], image_shapes: list[tuple[int, int]]) -> Tensor:
        """Level → ``[B, C, H, W]`` and boxes ``[R, 4]`` xyxy in pixels of each image → ``[ΣR, C, output_size, output_size]``."""
        maps = [x[name] for name in self.featmap_names]
        indices = torch.cat([torch.full_like(b[:, :1], i) for i, b in enumerate(boxes)])
        rois, levels = torch.cat([indices, torch.cat(boxes)], dim=1), self.map_levels(boxes)  # type: ignore[misc]
        pooled = rois.new_zeros(len(rois), maps[0].shape[1], *self.output_size).to(maps[0].dtype)
        for level, (feature_map, scale) in enumerate(zip(maps, self.scales, strict=True)):
            rows = torch.where(levels == level)[0]
            values = roi_align(feature_map, rois[rows], self.output_size, scale, self.sampling_ratio, aligned=True)
            pooled = pooled.index_put((rows,), values.to(pooled.dtype))
        return pooled


def align_geometry(detector: nn.Module) -> None:
    """Replace RoI pooling by :class:`AlignedRoIAlign` and rounded anchors by exact ones, in place.

    Raises:
        TypeError: If the detector has neither (FCOS).
    """
    pools = {name: m for name, m in detector.named_modules() if isinstance(m, PyramidRoIAlign)}
    anchors: list[Any] = [
        m for m in detector.modules() if isinstance(m, AnchorGenerator) and not isinstance(m, CellCenterAnchors)
    ]
    if not pools and not anchors:
        raise TypeError(
            f"{type(detector).__name__} has neither RoI pooling nor anchors of several sizes; leave out aligned."
        )
    for name, pooling in pools.items():
        parent, _, child = name.rpartition(".")
        setattr(detector.get_submodule(parent), child, AlignedRoIAlign(pooling))
    for generator in anchors:
        generator.cell_anchors = [
            exact_anchors(sizes, ratios) for sizes, ratios in zip(generator.sizes, generator.aspect_ratios, strict=True)
        ]


def exact_anchors(sizes: tuple[float, ...], aspect_ratios: tuple[float, ...]) -> Tensor:
    """Return the anchors ``[N, 4]`` around the origin of a cell, in torchvision's order, without rounding."""
    heights = torch.tensor(aspect_ratios).sqrt()
    widths, sides = 1 / heights, torch.tensor(sizes)
    w, h = ((factors[:, None] * sides).flatten() / 2 for factors in (widths, heights))
    return torch.stack([-w, -h, w, h], dim=1)
