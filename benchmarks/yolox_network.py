"""YOLOX-Nano with its published COCO weights, divided into the parts that an extended level needs.

The network is that of `featlift.integrations.yolox.load_yolox`, without batch norm; `featlift add-level yolox:FILE` divides it in the
same way (`featlift.upgrading.extended_yolox`). All weights are frozen, in float32. Sizes are those of an image of 416 px; the enlarged
image has 832 px.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

SIDE = 416
PADDING_VALUE = 114
STRIDES = (8, 16, 32)


class YOLOXNano(nn.Module):
    """The frozen detector in the parts that an extended level consists of.

    Args:
        model: Network of `featlift.integrations.yolox.load_yolox` with the published weights, or of `build_yolox("nano")`.
    """

    def __init__(self, model: nn.Module):
        super().__init__()
        self.neck, self.head = model.backbone, model.head
        self.body = self.neck.backbone
        self.eval().requires_grad_(False)

    def compute_dark3(self, image: Tensor) -> Tensor:
        """``[B, 3, H, W]`` in 0…255 → map of dark3 ``[B, 64, H/8, W/8]``."""
        return self.compute_dark3_from_stem(self.body.stem(image))

    def compute_dark3_from_stem(self, stem: Tensor) -> Tensor:
        """Map of the stem ``[B, 16, H/2, W/2]`` → map of dark3 ``[B, 64, H/8, W/8]``."""
        return self.body.dark3(self.body.dark2(stem))

    def compute_top_down(self, dark3: Tensor) -> tuple[Tensor, Tensor]:
        """Map of dark3 ``[B, 64, h, w]`` → reduce_conv1's ``[B, 64, h/2, w/2]`` and lateral_conv0's ``[B, 128, h/4, w/4]``."""
        dark4 = self.body.dark4(dark3)
        lateral_conv0 = self.neck.lateral_conv0(self.body.dark5(dark4))
        c3_p4 = self.neck.C3_p4(torch.cat([self.neck.upsample(lateral_conv0), dark4], 1))
        return self.neck.reduce_conv1(c3_p4), lateral_conv0

    def compute_c3_p3(self, reduce_conv1: Tensor, dark3: Tensor) -> Tensor:
        """``reduce_conv1 [B, 64, h/2, w/2]`` and ``dark3 [B, 64, h, w]`` → finest map of the neck ``[B, 64, h, w]``."""
        return self.neck.C3_p3(torch.cat([self.neck.upsample(reduce_conv1), dark3], 1))

    def compute_neck_maps(self, c3_p3: Tensor, reduce_conv1: Tensor, lateral_conv0: Tensor) -> list[Tensor]:
        """Inputs of the three heads, finest first: ``[B, 64, h, w]``, ``[B, 128, h/2, w/2]``, ``[B, 256, h/4, w/4]``."""
        c3_n3 = self.neck.C3_n3(torch.cat([self.neck.bu_conv2(c3_p3), reduce_conv1], 1))
        return [c3_p3, c3_n3, self.neck.C3_n4(torch.cat([self.neck.bu_conv1(c3_n3), lateral_conv0], 1))]

    def compute_output(self, features: Tensor, level: int = 0) -> Tensor:
        """``[B, 64…256, h, w]`` → output of the head of ``level`` (0 is the finest) ``[B, 85, h, w]``.

        Channels: box (4), logit of objectness, logits of 80 classes.
        """
        head = self.head
        x = head.stems[level](features)
        box = head.reg_convs[level](x)
        classes = head.cls_preds[level](head.cls_convs[level](x))
        return torch.cat([head.reg_preds[level](box), head.obj_preds[level](box), classes], 1)


@dataclass(frozen=True)
class PlainPass:
    """Maps and outputs of the detector on an image ``[B, 3, 416, 416]``."""

    dark3: Tensor
    """``[B, 64, 52, 52]``"""
    reduce_conv1: Tensor
    """``[B, 64, 26, 26]``"""
    lateral_conv0: Tensor
    """``[B, 128, 13, 13]``"""
    c3_p3: Tensor
    """``[B, 64, 52, 52]``: input of the finest head."""
    c3_n3: Tensor
    """``[B, 128, 26, 26]``: input of the head at stride 16."""
    outputs: list[Tensor]
    """``[B, 85, 52, 52]``, ``[B, 85, 26, 26]``, ``[B, 85, 13, 13]``"""


@torch.no_grad()
def run_plain_pass(network: YOLOXNano, image: Tensor) -> PlainPass:
    """Run the whole detector on ``image [B, 3, H, W]`` in 0…255, sides multiples of 32."""
    dark3 = network.compute_dark3(image)
    reduce_conv1, lateral_conv0 = network.compute_top_down(dark3)
    maps = network.compute_neck_maps(network.compute_c3_p3(reduce_conv1, dark3), reduce_conv1, lateral_conv0)
    outputs = [network.compute_output(features, level) for level, features in enumerate(maps)]
    return PlainPass(dark3, reduce_conv1, lateral_conv0, maps[0], maps[1], outputs)


def letterbox(image: NDArray[np.uint8], side: int = SIDE) -> tuple[Tensor, float]:
    """Resize ``image [H, W, 3]`` (BGR) into a padded square ``[1, 3, side, side]``; also returns the scale of its coordinates."""
    import cv2

    height, width = image.shape[:2]
    scale = min(side / height, side / width)
    padded = np.full((side, side, 3), PADDING_VALUE, np.uint8)
    resized = cv2.resize(image, (int(width * scale), int(height * scale)), interpolation=cv2.INTER_LINEAR)
    padded[: resized.shape[0], : resized.shape[1]] = resized
    return torch.from_numpy(padded).permute(2, 0, 1)[None].float(), scale
