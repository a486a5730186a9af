"""Inference modules that fuse operations of the AFI-GAN, SRF-GAN and light interpolators into fewer, larger ones.

AFI-GAN's and SRF-GAN's generators spend half of their time in the dense blocks and the 6x6 deconvolution; the light interpolator is
bound by writing maps of the output size.
"""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from featlift.interpolators.afi import AFI_NEGATIVE_SLOPE as AFI_SLOPE
from featlift.interpolators.afi import AFI_RESIDUAL_SCALE, ResidualDenseBlock
from featlift.interpolators.light import LIGHT_NEGATIVE_SLOPE as LIGHT_SLOPE
from featlift.interpolators.light import LightInterpolator
from featlift.interpolators.srf import SRF_NEGATIVE_SLOPE as SRF_SLOPE
from featlift.interpolators.srf import SRFBlock


class SubPixelDeconvolution(nn.Module):
    """A 6x6 transposed convolution of stride 2 and padding 2 as a 3x3 convolution to four phases and a pixel shuffle.

    Output row 2i + a takes input row i + t - 1 through kernel row 4 - 2t + a (t = 0, 1, 2), and so do columns.

    Args:
        deconvolution: Transposed convolution whose weights are copied.

    Raises:
        ValueError: If it has another kernel, stride or padding.
    """

    def __init__(self, deconvolution: nn.ConvTranspose2d):
        super().__init__()
        shape = deconvolution.kernel_size, deconvolution.stride, deconvolution.padding
        if shape != ((6, 6), (2, 2), (2, 2)):
            raise ValueError(
                f"Only kernel 6, stride 2, padding 2 has a sub-pixel form; this deconvolution has {shape}."
            )
        weight, bias = deconvolution.weight.detach(), deconvolution.bias
        taps = torch.stack([weight[:, :, a::2].flip(2) for a in (0, 1)], dim=2)  # [in, out, a, t, 6]
        taps = torch.stack([taps[..., b::2].flip(-1) for b in (0, 1)], dim=3)  # [in, out, a, b, t, u]
        repeated_bias = None if bias is None else bias.detach().repeat_interleave(4)
        self.conv = _frozen_conv(taps.flatten(1, 3).transpose(0, 1), repeated_bias)

    def forward(self, x: Tensor) -> Tensor:
        """``[B, C, H, W]`` → ``[B, C', 2H, 2W]``."""
        return nnf.pixel_shuffle(self.conv(x), 2)


class SplitDenseBlock(nn.Module):
    """A residual dense block without concatenations: each map is convolved once for all layers that use it.

    A convolution of concatenated maps is the sum of the convolutions of each map. So ``x`` is convolved once for all five layers, the
    first grown map once for the four that follow, and so on: five larger convolutions and no copies.

    Args:
        block: Dense block whose weights are copied.
    """

    def __init__(self, block: ResidualDenseBlock):
        super().__init__()
        weights = [convolution.weight.detach() for convolution in [*block.grow, block.close]]  # type: ignore[union-attr]
        channels, self.growth = weights[-1].shape[0], weights[0].shape[0]
        ends = [channels + i * self.growth for i in range(len(weights))]
        self.convs = nn.ModuleList(
            _frozen_conv(torch.cat([weight[:, start:end] for weight in weights[i:]]), None)
            for i, (start, end) in enumerate(pairwise([0, *ends]))
        )

    def forward(self, x: Tensor) -> Tensor:
        """``[B, C, H, W]`` → ``[B, C, H, W]``."""
        first, *others = self.convs
        sums = first(x)
        for conv in others:
            grown, rest = nnf.leaky_relu(sums[:, : self.growth], AFI_SLOPE), sums[:, self.growth :]
            sums = conv(grown).add_(rest)
        return sums.mul_(AFI_RESIDUAL_SCALE).add_(x)


class FusedSRFBlock(nn.Module):
    """A residual block of SRF-GAN with its batch norms (in evaluation mode) folded into the convolutions.

    Args:
        block: Residual block whose weights are copied.
    """

    def __init__(self, block: SRFBlock):
        super().__init__()
        self.conv1 = _fuse_conv_norm(block.conv1, block.norm1)
        self.conv2 = _fuse_conv_norm(block.conv2, block.norm2)

    def forward(self, x: Tensor) -> Tensor:
        """``[B, C, H, W]`` → ``[B, C, H, W]``."""
        return x + self.conv2(nnf.leaky_relu(self.conv1(x), SRF_SLOPE))


class FusedLightInterpolator(nn.Module):
    """:class:`~featlift.interpolators.light.LightInterpolator` with a single large map: the last convolution accumulates into the shortcut.

    Args:
        light: Light interpolator with a shortcut; its weights are shared.
    """

    def __init__(self, light: LightInterpolator):
        super().__init__()
        self.reduce, self.conv, self.grow, self.shortcut = light.reduce, light.conv, light.grow, light.shortcut
        self.last_weight = nn.Parameter(light.last.weight.detach().flatten(1), requires_grad=False)  # [C, width]
        self.bias = light.last.bias

    def forward(self, x: Tensor, guide: Tensor | None = None) -> Tensor:
        """``[B, C, H, W]`` → ``[B, C, 2H, 2W]``; ``guide`` is ignored."""
        y = nnf.leaky_relu(self.reduce(x), LIGHT_SLOPE)
        y = nnf.leaky_relu(self.conv(y), LIGHT_SLOPE)
        y = nnf.leaky_relu(nnf.pixel_shuffle(self.grow(y), 2), LIGHT_SLOPE)
        large = self.shortcut.interpolation(x if self.bias is None else x + self.bias[:, None, None])  # type: ignore[misc]
        if large.is_contiguous():
            large.flatten(2).baddbmm_(self.last_weight.expand(len(x), -1, -1), y.flatten(2))
            return large
        large = large.contiguous(memory_format=torch.channels_last)
        _flatten_cells(large).addmm_(_flatten_cells(y), self.last_weight.t())
        return large


def _flatten_cells(x: Tensor) -> Tensor:
    """View a channels-last map ``[B, C, H, W]`` as ``[B·H·W, C]``."""
    return x.permute(0, 2, 3, 1).flatten(0, 2)


def _frozen_conv(weight: Tensor, bias: Tensor | None) -> nn.Conv2d:
    """Return a frozen 3x3 convolution with ``weight [C', C, 3, 3]``."""
    conv = nn.Conv2d(weight.shape[1], weight.shape[0], 3, padding=1, bias=bias is not None, device="meta")
    conv.weight = nn.Parameter(weight.contiguous(), requires_grad=False)
    if bias is not None:
        conv.bias = nn.Parameter(bias, requires_grad=False)
    return conv


def _fuse_conv_norm(convolution: nn.Conv2d, norm: nn.Module) -> nn.Conv2d:
    return convolution if isinstance(norm, nn.Identity) else fuse_conv_bn_eval(convolution, norm)  # type: ignore[type-var]


FUSED_MODULES: dict[type[nn.Module], Callable[[Any], nn.Module]] = {
    nn.ConvTranspose2d: SubPixelDeconvolution,
    ResidualDenseBlock: SplitDenseBlock,
    SRFBlock: FusedSRFBlock,
    LightInterpolator: lambda light: light if light.shortcut.interpolation is None else FusedLightInterpolator(light),
}


def replace_modules(
    module: nn.Module, replacement_for: Callable[[Any], Callable[[Any], nn.Module] | None]
) -> nn.Module:
    """Replace ``module`` or, in place, its submodules by ``replacement_for(submodule)(submodule)`` where that is not None."""
    if (factory := replacement_for(module)) is not None:
        return factory(module)
    for name, child in module.named_children():
        setattr(module, name, replace_modules(child, replacement_for))
    return module
