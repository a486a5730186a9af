"""EDSR (Lim et al., "Enhanced deep residual networks for single image super-resolution", CVPRW 2017)."""

import torch
from torch import Tensor, nn

from featlift.checkpoints.init_args import store_init_args
from featlift.image_sr.blocks import DIV2K_MEAN, conv3x3, pixel_shuffle_tail, run_block


class EDSRBlock(nn.Module):
    """``x + res_scale · conv(relu(conv(x)))``, without normalization."""

    def __init__(self, width: int, res_scale: float) -> None:
        super().__init__()
        self.body = nn.Sequential(conv3x3(width, width), nn.ReLU(), conv3x3(width, width))
        self.res_scale = res_scale

    def forward(self, x: Tensor) -> Tensor:
        """``[B, C, H, W]`` → the same shape."""
        return x + self.res_scale * self.body(x)


@store_init_args()
class EDSR(nn.Module):
    """32 blocks of 256 channels with residuals scaled by 0.1 (43,089,923 parameters at 4x).

    The "baseline" of the paper is ``EDSR(scale, blocks=16, width=64, res_scale=1.0)`` (1,517,571). Internally, images have the range
    0…255 minus the DIV2K mean, as the published weights require. Set ``gradient_checkpointing = True`` to save memory in training.
    """

    mean: Tensor

    def __init__(self, scale: int = 4, blocks: int = 32, width: int = 256, res_scale: float = 0.1) -> None:
        super().__init__()
        self.scale = scale
        self.gradient_checkpointing = False
        self.register_buffer("mean", torch.tensor(DIV2K_MEAN)[:, None, None], persistent=False)
        self.head = nn.Sequential(conv3x3(3, width))
        self.body = nn.Sequential(*[EDSRBlock(width, res_scale) for _ in range(blocks)], conv3x3(width, width))
        self.tail = pixel_shuffle_tail(width, scale)

    def forward(self, low: Tensor) -> Tensor:
        """``[B, 3, H, W]`` in 0…1 → ``[B, 3, scale·H, scale·W]``, not clamped."""
        x = shallow = self.head((low - self.mean) * 255)
        for block in self.body:
            x = run_block(block, x, self.gradient_checkpointing)
        return self.tail(x + shallow) / 255 + self.mean
