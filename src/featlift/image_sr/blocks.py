"""Building blocks of EDSR and RCAN: the DIV2K mean, convolutions, the pixel-shuffle tail, and gradient checkpointing."""

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

DIV2K_MEAN = (0.4488, 0.4371, 0.4040)
"""Mean RGB of the DIV2K training images, in 0…1."""

PIXEL_SHUFFLE_FACTORS = {2: (2,), 3: (3,), 4: (2, 2), 8: (2, 2, 2)}
"""Scale → factors of its pixel shuffles."""


def conv3x3(in_channels: int, out_channels: int) -> nn.Conv2d:
    """Create a 3x3 convolution with bias that preserves height and width."""
    return nn.Conv2d(in_channels, out_channels, 3, padding=1)


def pixel_shuffle_tail(width: int, scale: int) -> nn.Sequential:
    """Create ``[B, width, H, W]`` → ``[B, 3, scale·H, scale·W]``: a convolution and pixel shuffle per factor, and one convolution to RGB.

    Raises:
        ValueError: If ``scale`` is not 2, 3, 4 or 8.
    """
    if scale not in PIXEL_SHUFFLE_FACTORS:
        raise ValueError(f"Scale {scale} is not supported; choose one of {', '.join(map(str, PIXEL_SHUFFLE_FACTORS))}.")
    upsampling: list[nn.Module] = []
    for factor in PIXEL_SHUFFLE_FACTORS[scale]:
        upsampling += [conv3x3(width, factor**2 * width), nn.PixelShuffle(factor)]
    return nn.Sequential(nn.Sequential(*upsampling), conv3x3(width, 3))


def run_block(block: nn.Module, x: Tensor, gradient_checkpointing: bool) -> Tensor:
    """Compute ``block(x)``; with ``gradient_checkpointing``, its activations are recomputed in the backward pass."""
    if gradient_checkpointing and torch.is_grad_enabled():
        return checkpoint(block, x, use_reentrant=False)
    return block(x)
