"""What EDSR and RCAN share: the DIV2K mean, convolutions, the pixel-shuffle tail, and recomputing blocks to save memory."""

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

DIV2K_MEAN = (0.4488, 0.4371, 0.4040)
"""Mean RGB of the DIV2K training pictures, in 0…1."""

PIXEL_SHUFFLE_FACTORS = {2: (2,), 3: (3,), 4: (2, 2), 8: (2, 2, 2)}
"""Scale → the factors of the pixel shuffles that make it."""


def conv3x3(in_channels: int, out_channels: int) -> nn.Conv2d:
    """A 3x3 convolution with bias that keeps height and width."""
    return nn.Conv2d(in_channels, out_channels, 3, padding=1)


def pixel_shuffle_tail(width: int, scale: int) -> nn.Sequential:
    """``[B, width, H, W]`` → ``[B, 3, scale·H, scale·W]``: a convolution and pixel shuffle per factor, then one to RGB.

    Raises:
        ValueError: if ``scale`` is not 2, 3, 4 or 8.
    """
    if scale not in PIXEL_SHUFFLE_FACTORS:
        raise ValueError(
            f"Scale {scale} cannot be shuffled; choose one of {', '.join(map(str, PIXEL_SHUFFLE_FACTORS))}."
        )
    doublings: list[nn.Module] = []
    for factor in PIXEL_SHUFFLE_FACTORS[scale]:
        doublings += [conv3x3(width, factor**2 * width), nn.PixelShuffle(factor)]
    return nn.Sequential(nn.Sequential(*doublings), conv3x3(width, 3))


def run_block(block: nn.Module, x: Tensor, gradient_checkpointing: bool) -> Tensor:
    """``block(x)``; with ``gradient_checkpointing`` its inner activations are dropped and computed again in the backward pass."""
    if gradient_checkpointing and torch.is_grad_enabled():
        return checkpoint(block, x, use_reentrant=False)
    return block(x)
