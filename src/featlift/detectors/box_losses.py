"""Box losses of RetinaNet and FCOS that torchvision's heads lack: smooth L1, and GIoU weighted by centerness."""

from typing import Any

import torch
import torch.nn.functional as nnf
from torch import Tensor
from torchvision.models.detection.fcos import FCOSHead
from torchvision.models.detection.retinanet import RetinaNetRegressionHead
from torchvision.ops import generalized_box_iou_loss


class SmoothL1RegressionHead(RetinaNetRegressionHead):
    """RetinaNet's box tower with smooth L1 (AFI-GAN, Eq. (5)): ``x² / (2β)`` below ``|x| = β``, ``|x| - β/2`` above.

    Args:
        channels: Channels C.
        num_anchors: Anchors per cell.
        beta: β, above 0.
    """

    def __init__(self, channels: int, num_anchors: int, beta: float):
        super().__init__(channels, num_anchors)
        self.beta = beta

    def compute_loss(self, targets: Any, head_outputs: Any, anchors: Any, matched_idxs: Any) -> Tensor:
        """Mean over the images of the sum over matched anchors divided by their number; arguments as in torchvision."""
        losses = []
        for target, offsets, boxes, matches in zip(
            targets, head_outputs["bbox_regression"], anchors, matched_idxs, strict=True
        ):
            rows = torch.where(matches >= 0)[0]
            wanted = self.box_coder.encode_single(target["boxes"][matches[rows]], boxes[rows])
            loss = nnf.smooth_l1_loss(offsets[rows], wanted, reduction="sum", beta=self.beta)
            losses.append(loss / max(1, len(rows)))
        return torch.stack(losses).mean()


class CenternessWeightedHead(FCOSHead):
    """FCOS head whose GIoU loss is weighted by the centerness of each cell, as in the published CenterMask and FCOS code."""

    def compute_loss(self, targets: Any, head_outputs: Any, anchors: Any, matched_idxs: Any) -> dict[str, Tensor]:
        """The losses of torchvision's head, with ``bbox_regression`` = Σ centerness · GIoU loss / Σ centerness."""
        losses = super().compute_loss(targets, head_outputs, anchors, matched_idxs)
        values, weights = [], []
        for target, offsets, cells, matches in zip(
            targets, head_outputs["bbox_regression"], anchors, matched_idxs, strict=True
        ):
            rows = torch.where(matches >= 0)[0]
            boxes = target["boxes"][matches[rows]]
            values.append(generalized_box_iou_loss(self.box_coder.decode(offsets[rows], cells[rows]), boxes))
            weights.append(centerness(self.box_coder.encode(cells[rows], boxes)))
        weight = torch.cat(weights)
        losses["bbox_regression"] = (torch.cat(values) * weight).sum() / weight.sum().clamp(min=1e-6)
        return losses


def centerness(distances: Tensor) -> Tensor:
    """Distances of cell centers to the left, top, right and bottom side of their box ``[N, 4]`` → centerness ``[N]`` in 0…1."""
    left, top, right, bottom = distances.unbind(-1)
    ratios = (torch.minimum(a, b) / torch.maximum(a, b) for a, b in ((left, right), (top, bottom)))
    return torch.stack(list(ratios)).prod(dim=0).clamp(min=0).sqrt()
