"""Modules that CenterMask (Lee and Park, CVPR 2020) adds to a mask head: spatial attention and mask IoU prediction."""

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn
from torchvision.models.detection.roi_heads import project_masks_on_boxes
from torchvision.ops import box_area

MASK_SIZE = 28  # cells per side of a predicted mask


class SpatialAttention(nn.Module):
    """``x · sigmoid(conv3x3(mean and maximum of x over channels))``; 18 parameters."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 1, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """``[R, C, H, W]`` → ``[R, C, H, W]``."""
        pooled = torch.cat([x.mean(dim=1, keepdim=True), x.amax(dim=1, keepdim=True)], dim=1)
        return x * self.conv(pooled).sigmoid()


class MaskIoUHead(nn.Module):
    """Predict the IoU of a predicted mask with the ground truth, for each class (Mask Scoring R-CNN: Huang et al., CVPR 2019).

    Args:
        channels: Channels C of the pooled RoI.
        num_classes: Number of classes K; output 0 is the unused background class.
        fc_dim: Features of the two fully connected layers.
    """

    def __init__(self, channels: int, num_classes: int, fc_dim: int = 1024):
        super().__init__()
        in_channels, strides = (channels + 1, channels, channels, channels), (1, 1, 1, 2)
        layers = [nn.Conv2d(c, channels, 3, stride=s, padding=1) for c, s in zip(in_channels, strides, strict=True)]
        self.convolutions = nn.ModuleList(layers)
        self.fc1 = nn.Linear(channels * (MASK_SIZE // 4) ** 2, fc_dim)
        self.fc2 = nn.Linear(fc_dim, fc_dim)
        self.last = nn.Linear(fc_dim, num_classes + 1)
        for convolution in layers:
            nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
            nn.init.zeros_(convolution.bias)  # type: ignore[arg-type]
        nn.init.normal_(self.last.weight, std=0.01)
        nn.init.zeros_(self.last.bias)

    def forward(self, pooled: Tensor, mask: Tensor) -> Tensor:
        """Pooled RoIs ``[R, C, 14, 14]`` and masks ``[R, 1, 28, 28]`` in 0…1 → IoUs ``[R, K + 1]``."""
        x = torch.cat([pooled, nnf.max_pool2d(mask, 2)], dim=1)
        for convolution in self.convolutions:
            x = convolution(x).relu()
        return self.last(self.fc2(self.fc1(x.flatten(1)).relu()).relu())


def mask_iou_loss(predicted: Tensor, target: Tensor) -> Tensor:
    """Compute half the mean squared error over the RoIs ``[R]`` with a nonzero target IoU (AFI-GAN, Eq. (7), L_maskiou), else 0."""
    overlaps = target > 0
    return 0.5 * (predicted - target)[overlaps].square().sum() / overlaps.sum().clamp(min=1)


def mask_ious(logits: Tensor, gt_masks: Tensor, boxes: Tensor, matched_idxs: Tensor) -> Tensor:
    """Compute the IoU of each predicted mask with the *whole* object, including its area outside the box.

    Args:
        logits: ``[R, 28, 28]``; values above 0 are foreground.
        gt_masks: Ground-truth masks ``[N, H, W]`` in image pixels.
        boxes: ``[R, 4]`` xyxy in image pixels.
        matched_idxs: Index of the object matched with each box, ``[R]``.

    Returns:
        ``[R]`` in 0…1, without gradient.
    """
    if not len(boxes):
        return boxes.new_zeros(0)
    predicted = (logits.detach() > 0).float()
    target = (project_masks_on_boxes(gt_masks, boxes, matched_idxs, MASK_SIZE) > 0.5).float()
    intersection = (predicted * target).sum(dim=(1, 2))
    object_area = gt_masks.to(boxes).sum(dim=(1, 2))[matched_idxs] * MASK_SIZE**2 / box_area(boxes).clamp(min=1e-6)
    return intersection / (predicted.sum(dim=(1, 2)) + object_area - intersection).clamp(min=1)
