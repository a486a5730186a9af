"""FADE (Lu et al., ECCV 2022): upsampling filters predicted from the coarse and the fine map, and a gate that passes the fine map."""

import torch.nn.functional as nnf
from torch import Tensor, nn

from featlift.checkpoints.init_args import store_init_args
from featlift.interpolators.guide import fit_guide
from featlift.interpolators.reassembly import reassemble


@store_init_args()
class FADE(nn.Module):
    """FADE: ``gate · guide + (1 - gate) · reassemble(x)``; 47,514 parameters at 256 channels.

    The filters are those of the semi-shift convolution: the same 3x3 convolution, applied to the compressed guide at the output cell and to
    the compressed ``x`` at its input cell, and the sum of both. (In the form "H2L" of the published PyTorch code the channels of the
    guide are permuted between the phases; this is the paper's formula and its form "L2H".) In a pyramid the lateral map is added
    to the result, as to that of any interpolator.

    Args:
        channels: Number of channels C.
        compressed_channels: Channels from which the filters are predicted.
        kernel: Side of the filters.
        gated: Use the gate; otherwise the result is ``reassemble(x)``.
    """

    needs_guide = True

    def __init__(self, channels: int, compressed_channels: int = 64, kernel: int = 5, gated: bool = True):
        super().__init__()
        self.compress_guide = nn.Conv2d(channels, compressed_channels, 1)
        self.compress = nn.Conv2d(channels, compressed_channels, 1, bias=False)
        self.encode = nn.Conv2d(compressed_channels, kernel**2, 3, padding=1)
        self.gate = nn.Conv2d(channels, 1, 1) if gated else None
        for convolution in filter(None, (self.compress_guide, self.compress, self.encode, self.gate)):
            nn.init.xavier_uniform_(convolution.weight)
            if convolution.bias is not None:
                nn.init.zeros_(convolution.bias)

    def forward(self, x: Tensor, guide: Tensor | None = None) -> Tensor:
        """``[B, C, H, W]`` and a guide ``[B, C, 2H, 2W]`` → ``[B, C, 2H, 2W]``.

        Raises:
            ValueError: If there is no guide, or its size does not fit.
        """
        guide = fit_guide(guide, x, "FADE")
        logits = self.encode(self.compress_guide(guide)) + _upsample_nearest(self.encode(self.compress(x)))
        y = reassemble(x, logits.softmax(dim=1))
        if self.gate is None:
            return y
        gate = _upsample_nearest(self.gate(x)).sigmoid()
        return gate * guide + (1 - gate) * y


def _upsample_nearest(x: Tensor) -> Tensor:
    return nnf.interpolate(x, scale_factor=2.0)
