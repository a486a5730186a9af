"""Path aggregation FPN (PANet: Liu et al., CVPR 2018): a bottom-up path after the top-down path with interpolators.

``m_i`` are the top-down maps of :class:`~featlift.pyramids.fpn.FPN`; ``n_2 = m_2``, ``n_{i+1} = m_{i+1} + relu(conv(n_i))`` with a 3x3
convolution of stride 2, and ``p_i = smooth_i(n_i)``. As in AFI-GAN, only the top-down path upsamples, and its maps are not smoothed
before the bottom-up path.
"""

from collections.abc import Callable, Mapping, Sequence

from torch import Tensor, nn
from torchvision.ops import Conv2dNormActivation
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock

from featlift.checkpoints.init_args import store_init_args
from featlift.features import Features, crop_or_pad
from featlift.pyramids.fpn import FPN


@store_init_args()
class PAFPN(FPN):
    """PAFPN: ``{c2 … c5}`` → ``{p2 … p5}`` and the levels of ``extra_blocks``; per step 590,080 parameters more than FPN at 256 channels.

    Args:
        in_channels: Backbone level → its number of channels, fine → coarse.
        out_channels: Number of channels C of every output level.
        interpolators: One interpolator for all top-down steps, or one per step, coarse → fine.
        extra_blocks: Adds coarser levels, computed from the final p5.
        norm_layer: Channels → normalization after every convolution, which then has no bias.

    Raises:
        ValueError: If the number of interpolators is neither 1 nor the number of steps.
    """

    def __init__(
        self,
        in_channels: Mapping[str, int],
        out_channels: int,
        interpolators: Sequence[nn.Module],
        extra_blocks: ExtraFPNBlock | None = None,
        norm_layer: Callable[[int], nn.Module] | None = None,
    ):
        super().__init__(in_channels, out_channels, interpolators, extra_blocks, norm_layer)
        self.downsample = nn.ModuleList(_downsample_conv(out_channels, norm_layer) for _ in range(len(in_channels) - 1))

    def inner_maps(self, x: Features) -> list[Tensor]:
        """Return the bottom-up maps ``[B, C, H, W]`` before the 3x3 smoothing, fine → coarse, one per input level."""
        top_down = super().inner_maps(x)
        bottom_up = [top_down[0]]
        for downsample, m in zip(self.downsample, top_down[1:], strict=True):
            bottom_up.append(m + crop_or_pad(downsample(bottom_up[-1]), (m.shape[-2], m.shape[-1])))
        return bottom_up


def _downsample_conv(channels: int, norm_layer: Callable[[int], nn.Module] | None) -> nn.Module:
    block = Conv2dNormActivation(channels, channels, 3, stride=2, norm_layer=norm_layer, activation_layer=nn.ReLU)
    nn.init.kaiming_uniform_(block[0].weight, a=1)  # type: ignore[arg-type]
    if block[0].bias is not None:
        nn.init.zeros_(block[0].bias)  # type: ignore[arg-type]
    return block
