"""Losses of a box head per RoI, and online hard example mining."""

import torch
import torch.nn.functional as nnf
from torch import Tensor


def box_head_losses(logits: Tensor, deltas: Tensor, labels: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Return the box head's losses per RoI: cross entropy ``[N]``, and smooth L1 (β = 1/9) of the box, summed over its sides, ``[N]``.

    ``logits [N, K+1]``, ``deltas [N, 4(K+1)]``, ``labels [N]`` in 0 … K, encoded target boxes ``targets [N, 4]``. Background RoIs have no
    box loss. The sums over N, divided by N, are torchvision's losses (Fast R-CNN, Eq. (1)).
    """
    class_deltas = deltas.unflatten(1, (-1, 4))[torch.arange(len(labels), device=labels.device), labels]
    box_loss = nnf.smooth_l1_loss(class_deltas, targets, beta=1 / 9, reduction="none").sum(dim=1)
    return nnf.cross_entropy(logits, labels, reduction="none"), box_loss * (labels > 0)


def ohem_select(
    classification_loss: Tensor, box_loss: Tensor, labels: Tensor, num_rois: int, positive_fraction: float = 0.25
) -> Tensor:
    """Online hard example mining (Shrivastava et al., CVPR 2016; EFPN, Sec. IV): return a mask ``[N]`` of the selected RoIs.

    Selects up to ``positive_fraction · num_rois`` objects with the largest sum of both losses, and up to
    ``(1 - positive_fraction) · num_rois`` background RoIs with the largest classification loss. Losses and labels are ``[N]``.
    No value is read by the host: a GPU is not waited for.
    """
    is_object, num_positive = labels > 0, round(num_rois * positive_fraction)
    hard_objects = _largest(classification_loss + box_loss, is_object, num_positive)
    return hard_objects | _largest(classification_loss, ~is_object, num_rois - num_positive)


def _largest(values: Tensor, mask: Tensor, count: int) -> Tensor:
    """Return a mask ``[N]`` of the up to ``count`` largest ``values`` inside ``mask``."""
    indices = values.detach().masked_fill(~mask, float("-inf")).topk(min(count, len(values))).indices
    return torch.zeros_like(mask).scatter(0, indices, mask[indices])
