"""RCAN (Zhang et al., "Image super-resolution using very deep residual channel attention networks", ECCV 2018)."""

import torch
from torch import Tensor, nn

from featlift.checkpoints.init_args import store_init_args
from featlift.image_sr.blocks import DIV2K_MEAN, conv3x3, pixel_shuffle_tail, run_block


class ChannelAttention(nn.Module):
    """Channel attention: a small network computes the weight of each channel from the means of all channels over the map."""

    def __init__(self, width: int, reduction: int) -> None:
        super().__init__()
        squeeze, excite = nn.Conv2d(width, width // reduction, 1), nn.Conv2d(width // reduction, width, 1)
        self.conv_du = nn.Sequential(squeeze, nn.ReLU(), excite, nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        """``[B, C, H, W]`` → the same shape."""
        return x * self.conv_du(x.mean(dim=(2, 3), keepdim=True))


class RCANResidual(nn.Module):
    """``x + body(x)``."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.body = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """``[B, C, H, W]`` → the same shape."""
        return x + self.body(x)


def channel_attention_block(width: int, reduction: int) -> RCANResidual:
    """RCAB: two convolutions and channel attention with a short skip connection."""
    return RCANResidual(conv3x3(width, width), nn.ReLU(), conv3x3(width, width), ChannelAttention(width, reduction))


def residual_group(blocks: int, width: int, reduction: int) -> RCANResidual:
    """``blocks`` channel attention blocks and a convolution with a skip connection."""
    return RCANResidual(*[channel_attention_block(width, reduction) for _ in range(blocks)], conv3x3(width, width))


@store_init_args()
class RCAN(nn.Module):
    """Ten groups of twenty attention blocks of 64 channels with a long skip connection (15,592,355 parameters at 4x).

    The attention is computed over the whole map, so tiled inference is not exact. Internally, images have the range 0…255 minus the
    DIV2K mean, as the published weights require. Set ``gradient_checkpointing = True`` to save memory in training.
    """

    mean: Tensor

    def __init__(
        self, scale: int = 4, groups: int = 10, blocks: int = 20, width: int = 64, reduction: int = 16
    ) -> None:
        super().__init__()
        self.scale = scale
        self.gradient_checkpointing = False
        self.register_buffer("mean", torch.tensor(DIV2K_MEAN)[:, None, None], persistent=False)
        self.head = nn.Sequential(conv3x3(3, width))
        deep = [residual_group(blocks, width, reduction) for _ in range(groups)]
        self.body = nn.Sequential(*deep, conv3x3(width, width))
        self.tail = pixel_shuffle_tail(width, scale)

    def forward(self, low: Tensor) -> Tensor:
        """``[B, 3, H, W]`` in 0…1 → ``[B, 3, scale·H, scale·W]``, not clamped."""
        x = shallow = self.head((low - self.mean) * 255)
        for group in self.body:
            x = run_block(group, x, self.gradient_checkpointing)
        return self.tail(x + shallow) / 255 + self.mean
