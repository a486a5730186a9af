"""CARAFE (Wang et al., ICCV 2019): each output cell is a weighted mean of a 5x5 neighborhood, with weights predicted from the content."""

import torch.nn.functional as nnf
from torch import Tensor, nn

from featlift.checkpoints.init_args import store_init_args
from featlift.interpolators.reassembly import reassemble


@store_init_args()
class CARAFE(nn.Module):
    """Content-aware reassembly of features, upsampling by 2; 74,148 parameters at 256 channels.

    Args:
        channels: Number of channels C.
        compressed_channels: Channels from which the weights are predicted; the paper uses 64.
        encoder_kernel: Kernel size of the convolution that predicts the weights; the paper uses 3.
        reassembly_kernel: Side of the averaged neighborhood; the paper uses 5.
    """

    def __init__(
        self, channels: int, compressed_channels: int = 64, encoder_kernel: int = 3, reassembly_kernel: int = 5
    ):
        super().__init__()
        self.reassembly_kernel = reassembly_kernel
        self.compress = nn.Conv2d(channels, compressed_channels, 1)
        self.encode = nn.Conv2d(
            compressed_channels, 4 * reassembly_kernel**2, encoder_kernel, padding=encoder_kernel // 2
        )
        nn.init.xavier_uniform_(self.compress.weight)
        nn.init.normal_(self.encode.weight, std=0.001)
        for convolution in (self.compress, self.encode):
            nn.init.zeros_(convolution.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor, guide: Tensor | None = None) -> Tensor:
        """``[B, C, H, W]`` → ``[B, C, 2H, 2W]``; ``guide`` is ignored."""
        weights = nnf.pixel_shuffle(self.encode(self.compress(x)), 2)  # channel 4k + phase
        return reassemble(x, weights.softmax(dim=1))
