"""Extended feature pyramid (EFPN: Deng et al., IEEE TMM 2021): an additional level p2x of stride 2 for small objects.

``p3x = FTT(inner3, inner2)`` and ``p2x = smooth(lateral(c2x) + upsample(p3x))`` (Sec. III-A, Eq. (1)), where c2x is the backbone's stage 2
without pooling and inner3, inner2 are the top-down maps before their 3x3 convolutions (as in the authors' anonymous release; the paper
writes P3 and P2, and a plain sum: ``inputs="outputs"``, ``merge="sum"``). p3x is computed by a texture transfer: FTT, or one of its
variants in `featlift.pyramids.texture_transfers`.
"""

import torch
from torch import Tensor, nn

from featlift.checkpoints.init_args import store_init_args
from featlift.features import Features, crop_or_pad, spatial_size
from featlift.interpolators.fixed import NearestInterpolator
from featlift.pyramids.texture_transfers import FTT, xavier_conv
from featlift.registry import check_choice

MERGES = ("convolutions", "sum")
EXTENSION_INPUTS = ("inner", "outputs")
FTT_TAIL_SCALE = 0.1
"""Scale of FTT's last convolution in :func:`init_extended_level`; not 0, so that all parameters have a gradient at the first step."""


@store_init_args()
class ExtendedLevel(nn.Module):
    """Extended level: computes p3x and p2x from inner3, inner2 and c2x. With the authors' FTT 32,512,768 parameters at 256 channels.

    Args:
        c2_channels: Number of channels C2 of c2x (equal to that of c2).
        channels: Number of channels C of the pyramid.
        transfer: Texture transfer that computes p3x, see :func:`~featlift.pyramids.texture_transfers.texture_transfer`.
        upsampler: Interpolator that upsamples p3x; None selects nearest interpolation, as in the paper.
        merge: "convolutions": lateral and smoothing convolution, as in the release; "sum": Eq. (1) as printed, p2x = upsample(p3x) + c2x.
        inputs: "inner": inner3 and inner2, as in the release; "outputs": P3 and P2, as in the text. p3x has the level of its first input.

    Raises:
        ValueError: If an option is unknown, or "sum" has ``c2_channels`` other than ``channels``.
    """

    def __init__(
        self,
        c2_channels: int,
        channels: int,
        transfer: nn.Module,
        upsampler: nn.Module | None = None,
        merge: str = MERGES[0],
        inputs: str = EXTENSION_INPUTS[0],
    ):
        super().__init__()
        check_choice(merge, MERGES, "merge")
        check_choice(inputs, EXTENSION_INPUTS, "inputs")
        if merge == "sum" and c2_channels != channels:
            raise ValueError(
                f"Eq. (1) adds c2x of {c2_channels} channels to maps of {channels}; choose merge='convolutions'."
            )
        self.transfer = transfer
        self.upsampler = upsampler or NearestInterpolator(channels)
        self.inputs = inputs
        is_sum = merge == "sum"
        self.lateral = nn.Identity() if is_sum else xavier_conv(c2_channels, channels, 1, bias=False)
        self.smooth = nn.Identity() if is_sum else xavier_conv(channels, channels, 3, bias=False)

    def forward(self, inner3: Tensor, inner2: Tensor, c2x: Tensor) -> Features:
        """``[B, C, H/8, W/8]``, ``[B, C, H/4, W/4]``, ``[B, C2, H/2, W/2]`` → ``{"p3x": [B, C, H/4, W/4], "p2x": [B, C, H/2, W/2]}``."""
        p3x = self.transfer(inner3, inner2)
        lateral = self.lateral(c2x)
        p2x = self.smooth(lateral + crop_or_pad(self.upsampler(p3x, lateral), spatial_size(c2x)))
        return {"p3x": p3x, "p2x": p2x}


def init_extended_level(level: ExtendedLevel, lateral: nn.Module, smooth: nn.Module) -> None:
    """Initialize ``level`` as a further step of the pyramid whose finest lateral and smoothing convolutions are given.

    The level is trained to reproduce, for an image, the finest step of that pyramid for the image at twice the size. With the weights of
    that step, only the differences between c2x, p3x and the c2, inner3 of the larger image remain to be learned. FTT is initialized close
    to its outer shortcut, nearest-upsampled inner3. (The release uses random weights.) Biases are not copied, because the convolutions of
    the level have none; steps with a normalization are not copied either.
    """
    for conv, block in ((level.lateral, lateral), (level.smooth, smooth)):
        if isinstance(conv, nn.Conv2d):
            _copy_conv_weights(conv, block)
    if isinstance(level.transfer, FTT):
        for parameter in level.transfer.tail[-1].parameters():
            parameter.data.mul_(FTT_TAIL_SCALE)


@torch.no_grad()
def _copy_conv_weights(conv: nn.Conv2d, block: nn.Module) -> None:
    """Copy the weights of the convolution in ``block`` to ``conv`` if ``block`` has no other parameters or buffers."""
    layers = [m for m in block.modules() if list(m.parameters(recurse=False)) or list(m.buffers(recurse=False))]
    if len(layers) == 1 and isinstance(layers[0], nn.Conv2d):
        conv.weight.copy_(layers[0].weight)
