"""YOLOX's stem on the enlarged image, computed from the image itself with fewer multiply-adds."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from yolox_network import YOLOXNano

from featlift.upgrading.extended_family import enlarge


class ImageStem(nn.Module):
    """Convolution that replaces bilinear upsampling, space-to-depth and the stem's convolution, which are one linear map.

    ``[B, 3, H, W]`` → ``[B, 16, H, W]``. With ``kernel_size`` 5 it is exact except within three pixels of the border and needs 0.7 of
    the multiply-adds; with 3 (0.25 of them) it is the least-squares fit on ``images``.

    Args:
        network: Frozen detector.
        kernel_size: 5 or 3.
        images: ``[1, 3, H, W]`` each, for ``kernel_size`` 3.
    """

    def __init__(self, network: YOLOXNano, kernel_size: int = 5, images: Sequence[Tensor] = ()):
        super().__init__()
        weight, bias = _compose(network.body.stem.conv.conv)
        if kernel_size == 3:
            weight, bias = _fit_3x3(weight, bias, images)
        self.conv = nn.Conv2d(3, 16, kernel_size, padding=kernel_size // 2)
        self.conv.weight.data.copy_(weight)
        self.conv.bias.data.copy_(bias)
        self.requires_grad_(False)

    def forward(self, image: Tensor) -> Tensor:
        """``[B, 3, H, W]`` in 0…255 → ``[B, 16, H, W]``."""
        return F.silu(self.conv(image))


@torch.no_grad()
def _compose(convolution: nn.Conv2d) -> tuple[Tensor, Tensor]:
    """Weight ``[16, 3, 5, 5]`` and bias ``[16]`` of the composed map, from its response to impulses."""
    impulses = torch.zeros(3, 3, 13, 13)
    for channel in range(3):
        impulses[channel, channel, 6, 6] = 1
    enlarged = enlarge(impulses)
    space_to_depth = torch.cat([enlarged[..., i::2, j::2] for j in (0, 1) for i in (0, 1)], 1)
    response = F.conv2d(space_to_depth, convolution.weight, padding=1)
    weight = response[:, :, 4:9, 4:9].flip(2, 3).transpose(0, 1).contiguous()
    return weight, convolution.bias.detach().clone()


def _fit_3x3(weight: Tensor, bias: Tensor, images: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Fit a 3x3 convolution to a 5x5 one on ``images``."""
    squares, products = torch.zeros(28, 28, dtype=torch.float64), torch.zeros(28, 16, dtype=torch.float64)
    for image in images:
        target = F.conv2d(image, weight, bias)[0].flatten(1).double()
        patches = F.unfold(image[..., 1:-1, 1:-1], 3)[0].double()
        patches = torch.cat([patches, torch.ones_like(patches[:1])])
        squares += patches @ patches.T
        products += patches @ target.T
    regularization = 1e-6 * squares.diagonal().mean() * torch.eye(28)
    solution = torch.linalg.solve(squares + regularization, products).float()
    return solution[:-1].T.reshape(16, 3, 3, 3), solution[-1]
