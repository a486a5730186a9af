"""Feature pyramid network (Lin et al., CVPR 2017) that is *given* what doubles its maps.

``inner_i = lateral_i(c_i) + G(inner_{i+1})``, ``p_i = smooth_i(inner_i)``. With nearest interpolation it is torchvision's network to
the last bit, and it has torchvision's parameter names, so any torchvision FPN weights load strictly. With AFI or SRF in the place of G
it is the pyramid of AFI-GAN (Sec. 3.1, Fig. 2).
"""

from collections.abc import Callable, Mapping, Sequence

import torch.nn.functional as nnf
from torch import Tensor, nn
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock, FeaturePyramidNetwork, LastLevelP6P7

from featlift.checkpoints.init_args import store_init_args
from featlift.features import Features, crop_or_pad


@store_init_args()
class MaxPoolP6(ExtraFPNBlock):
    """p6 = every second cell of p5: what the R-CNN family adds on top. No parameters."""

    added_levels = ("p6",)

    def forward(self, results: list[Tensor], x: list[Tensor], names: list[str]) -> tuple[list[Tensor], list[str]]:
        """``results``: pyramid maps ``[B, C, H, W]``, fine → coarse; ``x``: the backbone's (not used). Both lists come back with p6."""
        return [*results, nnf.max_pool2d(results[-1], kernel_size=1, stride=2)], [*names, "p6"]


@store_init_args()
class ConvP6P7(LastLevelP6P7):
    """p6 and p7 by 3x3 convolutions of stride 2: what RetinaNet (from c5) and FCOS (from p5) add on top.

    Args:
        in_channels: of the map that p6 is made from; equal to ``out_channels`` means p5, anything else c5.
        out_channels: C of the pyramid.
    """

    added_levels = ("p6", "p7")


@store_init_args()
class FPN(FeaturePyramidNetwork):
    """``{c2 … c5}`` in, ``{p2 … p5}`` and what ``extra_blocks`` adds out.

    Args:
        in_channels: name of each backbone level → its channels, fine → coarse. ``c3`` becomes ``p3``; other names are kept.
        out_channels: C of every output.
        interpolators: what doubles a map: one module for all steps (AFI, SRF), or one for each step, coarse → fine (5conv, deconv).
        extra_blocks: adds coarser levels: :class:`MaxPoolP6`, :class:`ConvP6P7` or any torchvision ``ExtraFPNBlock``.
        norm_layer: channels → the normalization after every convolution, which then has no bias (ResNeSt rows: synchronized batch norm).

    Raises:
        ValueError: if the number of interpolators is neither 1 nor the number of steps.
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
        self.levels = (*map(output_level, in_channels), *getattr(extra_blocks, "adds", ()))
        self.interpolators = nn.ModuleList(check_interpolator_count(interpolators, len(in_channels) - 1))

    def forward(self, x: Features) -> Features:
        """``{"c2": [B, C2, H/4, W/4], …}`` → ``{"p2": [B, C, H/4, W/4], …}``; H and W are those of the image."""
        return self.outputs_from_inner(x, self.inner_maps(x))

    def outputs_from_inner(self, x: Features, inner: list[Tensor]) -> Features:
        """What :meth:`forward` gives for ``x``, from the :meth:`inner_maps` that are already there."""
        names = [output_level(name) for name in x]
        smoothed = [smooth(m) for smooth, m in zip(self.layer_blocks, inner, strict=True)]
        if self.extra_blocks is not None:
            smoothed, names = self.extra_blocks(smoothed, list(x.values()), names)
        return dict(zip(names, smoothed, strict=True))

    def inner_maps(self, x: Features) -> list[Tensor]:
        """The top-down maps before the 3x3 smoothing, fine → coarse: ``[B, C, H, W]`` of each level given."""
        laterals = [lateral(c) for lateral, c in zip(self.inner_blocks, x.values(), strict=True)]
        maps = [laterals.pop()]
        for step, lateral in enumerate(reversed(laterals)):
            maps.insert(0, lateral + self.upsample(step, maps[0], lateral.shape[-2:]))
        return maps

    def upsample(self, step: int, x: Tensor, size: tuple[int, int]) -> Tensor:
        """``x [B, C, H, W]`` doubled by the interpolator of this step (0 is the coarsest) and fitted onto ``size``."""
        return crop_or_pad(self.interpolators[step % len(self.interpolators)](x), size)


@store_init_args()
class NoLateralFPN(FPN):
    """An FPN without lateral connections: ``inner_i = G(inner_{i+1})``, every level but the coarsest is up-sampled only.

    The variant B1 of AFI-GAN's Table 9, which asks what 4 and 8 times up-sampling without new detail is worth (B2 is :class:`FPN`). The 3x3
    convolutions at the end stay; the paper does not say. ``forward`` takes and returns what :class:`FPN` does.
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
        del self.inner_blocks[:-1]

    def inner_maps(self, x: Features) -> list[Tensor]:
        """The maps before the 3x3 smoothing, fine → coarse: ``[B, C, H, W]`` of each level given."""
        finer, (coarsest,) = list(x.values())[:-1], list(x.values())[-1:]
        maps = [self.inner_blocks[0](coarsest)]
        for step, c in enumerate(reversed(finer)):
            maps.insert(0, self.upsample(step, maps[0], (c.shape[-2], c.shape[-1])))
        return maps


def check_interpolator_count(interpolators: Sequence[nn.Module], num_steps: int) -> Sequence[nn.Module]:
    """``interpolators`` as given, if there is one for all steps or one for each. Raises ValueError otherwise."""
    if len(interpolators) not in (1, num_steps):
        raise ValueError(
            f"{len(interpolators)} interpolators were given for {num_steps} steps of the pyramid: "
            f"give one, which all steps share, or {num_steps}, coarse to fine."
        )
    return interpolators


def output_level(name: str) -> str:
    """``"c3"`` → ``"p3"``; names of another form are kept."""
    return f"p{name[1:]}" if name[:1] == "c" and name[1:].isdigit() else name
