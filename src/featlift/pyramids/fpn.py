"""Feature pyramid network (Lin et al., CVPR 2017) with exchangeable interpolators G.

``inner_i = lateral_i(c_i) + G(inner_{i+1}, lateral_i(c_i))``, ``p_i = smooth_i(inner_i)``; most G ignore their second argument, the guide.
With nearest interpolation its outputs are bitwise those of torchvision's FPN. It has torchvision's parameter names, so torchvision FPN
weights load strictly. With AFI or SRF as G it is the pyramid of AFI-GAN (Sec. 3.1, Fig. 2).
"""

from collections.abc import Callable, Mapping, Sequence

import torch.nn.functional as nnf
from torch import Tensor, nn
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock, FeaturePyramidNetwork, LastLevelP6P7

from featlift.checkpoints.init_args import store_init_args
from featlift.features import Features, crop_or_pad, spatial_size
from featlift.interpolators.guide import needs_guide


@store_init_args()
class MaxPoolP6(ExtraFPNBlock):
    """Parameter-free p6 of the R-CNN family: every second cell of p5."""

    added_levels = ("p6",)

    def forward(self, results: list[Tensor], x: list[Tensor], names: list[str]) -> tuple[list[Tensor], list[str]]:
        """Append p6 to ``results`` (pyramid maps ``[B, C, H, W]``, fine → coarse) and ``names``; ``x`` (backbone maps) is not used."""
        return [*results, nnf.max_pool2d(results[-1], kernel_size=1, stride=2)], [*names, "p6"]


@store_init_args()
class ConvP6P7(LastLevelP6P7):
    """p6 and p7 by 3x3 convolutions of stride 2, as in RetinaNet (from c5) and FCOS (from p5).

    Args:
        in_channels: Number of channels of the input of p6; equal to ``out_channels`` selects p5, otherwise c5.
        out_channels: Number of channels C of the pyramid.
    """

    added_levels = ("p6", "p7")


@store_init_args()
class FPN(FeaturePyramidNetwork):
    """FPN: ``{c2 … c5}`` → ``{p2 … p5}`` and the levels of ``extra_blocks``.

    Args:
        in_channels: Backbone level → its number of channels, fine → coarse. ``c3`` becomes ``p3``; other names do not change.
        out_channels: Number of channels C of every output level.
        interpolators: One interpolator for all steps (AFI, SRF), or one per step, coarse → fine (5conv, deconv).
        extra_blocks: Adds coarser levels: :class:`MaxPoolP6`, :class:`ConvP6P7` or any torchvision ``ExtraFPNBlock``.
        norm_layer: Channels → normalization after every convolution, which then has no bias (ResNeSt rows: synchronized batch norm).

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
        super().__init__(list(in_channels.values()), out_channels, extra_blocks=extra_blocks, norm_layer=norm_layer)
        self.in_channels = dict(in_channels)
        self.out_channels = out_channels
        self.levels = (*map(output_level, in_channels), *getattr(extra_blocks, "added_levels", ()))
        self.upsampled_levels = fpn_upsampled_levels(tuple(in_channels))
        self.interpolators = nn.ModuleList(check_interpolator_count(interpolators, len(self.upsampled_levels)))

    def forward(self, x: Features) -> Features:
        """``{"c2": [B, C2, H/4, W/4], …}`` → ``{"p2": [B, C, H/4, W/4], …}``; H and W are those of the image."""
        return self.outputs_from_inner(x, self.inner_maps(x))

    def outputs_from_inner(self, x: Features, inner: list[Tensor]) -> Features:
        """Return the output of :meth:`forward` for ``x``, given its :meth:`inner_maps`."""
        names = [output_level(name) for name in x]
        smoothed = [smooth(m) for smooth, m in zip(self.layer_blocks, inner, strict=True)]
        if self.extra_blocks is not None:
            smoothed, names = self.extra_blocks(smoothed, list(x.values()), names)
        return dict(zip(names, smoothed, strict=True))

    def inner_maps(self, x: Features) -> list[Tensor]:
        """Return the top-down maps ``[B, C, H, W]`` before the 3x3 smoothing, fine → coarse, one per input level."""
        laterals = [lateral(c) for lateral, c in zip(self.inner_blocks, x.values(), strict=True)]
        maps = [laterals.pop()]
        for step, lateral in enumerate(reversed(laterals)):
            maps.insert(0, lateral + self.upsample(step, maps[0], spatial_size(lateral), lateral))
        return maps

    def upsample(self, step: int, x: Tensor, size: tuple[int, int], guide: Tensor | None = None) -> Tensor:
        """Upsample ``x [B, C, H, W]`` by 2 with the interpolator of ``step`` (0 is the coarsest) and crop or pad it to ``size``.

        ``guide`` is the lateral map ``[B, C, *size]`` to which the result is added.
        """
        return crop_or_pad(self.interpolators[step % len(self.interpolators)](x, guide), size)


@store_init_args()
class NoLateralFPN(FPN):
    """FPN without lateral connections: ``inner_i = G(inner_{i+1})``; all levels except the coarsest are upsampled only.

    Variant B1 of AFI-GAN's Table 9, which measures upsampling by 4 and 8 without new detail (B2 is :class:`FPN`). The final 3x3
    convolutions are included; the paper does not specify this. Same inputs and outputs as :class:`FPN`.

    Raises:
        ValueError: If an interpolator needs a guide, or their number is neither 1 nor the number of steps.
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
        guided = next((type(g).__name__ for g in self.interpolators if needs_guide(g)), "")
        if guided:
            raise ValueError(
                f"{guided} reads the lateral map of the finer level, and a NoLateralFPN has no lateral maps; "
                "choose another interpolator or another pyramid."
            )
        del self.inner_blocks[:-1]

    def inner_maps(self, x: Features) -> list[Tensor]:
        """Return the upsampled maps ``[B, C, H, W]`` before the 3x3 smoothing, fine → coarse, one per input level."""
        *fine, coarsest = x.values()
        maps = [self.inner_blocks[0](coarsest)]
        for step, c in enumerate(reversed(fine)):
            maps.insert(0, self.upsample(step, maps[0], spatial_size(c)))
        return maps


def check_interpolator_count(interpolators: Sequence[nn.Module], num_steps: int) -> Sequence[nn.Module]:
    """Return ``interpolators`` if their number is 1 or ``num_steps``. Raises ValueError otherwise."""
    if len(interpolators) not in (1, num_steps):
        raise ValueError(
            f"{len(interpolators)} interpolators given for {num_steps} upsampling steps of the pyramid; "
            f"give 1, shared by all steps, or {num_steps}, coarse to fine."
        )
    return interpolators


def fpn_upsampled_levels(in_levels: Sequence[str]) -> tuple[str, ...]:
    """Return the level that each upsampling step of an FPN of ``in_levels`` (fine → coarse) upsamples: p5, p4, p3 for c2 … c5."""
    return tuple(output_level(name) for name in reversed(in_levels[1:]))


def output_level(name: str) -> str:
    """Return the pyramid level of a backbone level (``"c3"`` → ``"p3"``); other names do not change."""
    return f"p{name[1:]}" if name[:1] == "c" and name[1:].isdigit() else name
