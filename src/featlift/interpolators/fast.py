"""The same interpolator in other forms: equal functions that some machine computes faster. Made for inference; the original is what learns.

AFI-GAN's and SRF-GAN's generators spend half of their time in the dense blocks and the 6x6 deconvolution. Both have a form that asks the
same sums of a machine in larger pieces, and every 3x3 convolution has one with fewer multiplications. Which form is fastest depends on the
machine: `featlift.fastest` measures it.
"""

import copy
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from featlift.interpolators.afi import DAMPING, ResidualDenseBlock
from featlift.interpolators.afi import SLOPE as AFI_SLOPE
from featlift.interpolators.srf import SLOPE as SRF_SLOPE
from featlift.interpolators.srf import ResidualBlock
from featlift.interpolators.winograd import Winograd, fits

WIDE = 64
"""Channels from which on a 3x3 convolution gains by the transforms around it."""


class Phases(nn.Module):
    """A 6x6 transposed convolution of stride 2 and padding 2 as a 3x3 convolution to four phases and a pixel shuffle.

    Output row 2i + a takes input row i + t - 1 through kernel row 4 - 2t + a (t = 0, 1, 2), and so do columns.

    Args:
        deconvolution: whose weights are copied.

    Raises:
        ValueError: if it has another kernel, stride or padding.
    """

    def __init__(self, deconvolution: nn.ConvTranspose2d):
        super().__init__()
        shape = deconvolution.kernel_size, deconvolution.stride, deconvolution.padding
        if shape != ((6, 6), (2, 2), (2, 2)):
            raise ValueError(f"Only kernel 6, stride 2, padding 2 has this form; this one has {shape}.")
        weight, bias = deconvolution.weight.detach(), deconvolution.bias
        taps = torch.stack([weight[:, :, a::2].flip(2) for a in (0, 1)], dim=2)  # [in, out, a, t, 6]
        taps = torch.stack([taps[..., b::2].flip(-1) for b in (0, 1)], dim=3)  # [in, out, a, b, t, u]
        repeated = None if bias is None else bias.detach().repeat_interleave(4)
        self.phases = _convolution(taps.flatten(1, 3).transpose(0, 1), repeated)

    def forward(self, x: Tensor) -> Tensor:
        """``[B, C, H, W]`` → ``[B, C', 2H, 2W]``."""
        return nnf.pixel_shuffle(self.phases(x), 2)


class SplitDense(nn.Module):
    """A residual dense block without concatenations: each map is convolved once, for everybody who will read it.

    A convolution of concatenated maps is the sum of convolutions of each. So ``x`` is convolved once into all five results, the first
    grown map once into the four that follow, and so on: five larger convolutions, and no map is copied.

    Args:
        block: whose weights are copied.
    """

    def __init__(self, block: ResidualDenseBlock):
        super().__init__()
        readers = [convolution.weight.detach() for convolution in [*block.grow, block.close]]  # type: ignore[union-attr]
        channels, self.growth = readers[-1].shape[0], readers[0].shape[0]
        ends = [channels + i * self.growth for i in range(len(readers))]
        self.reads = nn.ModuleList(
            _convolution(torch.cat([weight[:, start:end] for weight in readers[i:]]), None)
            for i, (start, end) in enumerate(pairwise([0, *ends]))
        )

    def forward(self, x: Tensor) -> Tensor:
        """``[B, C, H, W]`` → ``[B, C, H, W]``."""
        first, *others = self.reads
        sums = first(x)
        for read in others:
            grown, rest = nnf.leaky_relu(sums[:, : self.growth], AFI_SLOPE), sums[:, self.growth :]
            sums = read(grown).add_(rest)
        return sums.mul_(DAMPING).add_(x)


class FoldedBlock(nn.Module):
    """A residual block of SRF-GAN whose batch norms, with their statistics of now, are part of its convolutions.

    Args:
        block: whose weights are copied.
    """

    def __init__(self, block: ResidualBlock):
        super().__init__()
        self.conv1 = _folded(block.conv1, block.norm1)
        self.conv2 = _folded(block.conv2, block.norm2)

    def forward(self, x: Tensor) -> Tensor:
        """``[B, C, H, W]`` → ``[B, C, H, W]``."""
        return x + self.conv2(nnf.leaky_relu(self.conv1(x), SRF_SLOPE))


class ChannelsLast(nn.Module):
    """A module whose weights and maps lie in memory channel by channel within each cell.

    Args:
        module: is converted in place.
        dtype: of its weights and maps; the answer has that of the input.
    """

    def __init__(self, module: nn.Module, dtype: torch.dtype | None = None):
        super().__init__()
        self.module = module.to(dtype=dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.dtype = dtype

    def forward(self, x: Tensor) -> Tensor:
        """``[B, C, H, W]`` → ``[B, C, 2H, 2W]``."""
        return self.module(x.to(self.dtype or x.dtype, memory_format=torch.channels_last)).to(x.dtype)


def _convolution(weight: Tensor, bias: Tensor | None) -> nn.Conv2d:
    """A 3x3 convolution with these weights ``[C', C, 3, 3]``, as fixed."""
    made = nn.Conv2d(weight.shape[1], weight.shape[0], 3, padding=1, bias=bias is not None, device="meta")
    made.weight = nn.Parameter(weight.contiguous(), requires_grad=False)
    if bias is not None:
        made.bias = nn.Parameter(bias, requires_grad=False)
    return made


REWRITES: dict[type[nn.Module], Callable[..., nn.Module]] = {
    nn.ConvTranspose2d: Phases,
    ResidualDenseBlock: SplitDense,
    ResidualBlock: FoldedBlock,
}


def still(module: nn.Module) -> nn.Module:
    """A copy of ``module`` for inference, by its own forward (`featlift.fastest.hasten` may have put another in its place)."""
    copied = copy.deepcopy(module).eval().requires_grad_(False)
    for part in copied.modules():
        part.__dict__.pop("forward", None)
    return copied


def rewritten(module: nn.Module) -> nn.Module:
    """A copy of ``module`` in which deconvolutions are :class:`Phases`, dense blocks :class:`SplitDense`, and batch norms folded.

    Equal to ``module`` in evaluation mode up to the order of the sums: 1e-5 relative in float32.
    """
    return _rewrite(still(module), lambda part: REWRITES.get(type(part)))


def winograd(module: nn.Module) -> nn.Module:
    """:func:`rewritten`, and in it the wide 3x3 convolutions as :class:`~featlift.interpolators.winograd.Winograd`, channels last."""
    wide = lambda part: Winograd if fits(part) and min(part.in_channels, part.out_channels) >= WIDE else None  # noqa: E731
    return ChannelsLast(_rewrite(rewritten(module), wide))


def compiled(module: nn.Module) -> nn.Module:
    """:func:`rewritten`, channels last, through ``torch.compile``: needs a compiler, and half a minute at the first map of each size."""
    made = ChannelsLast(rewritten(module))
    made.compile(dynamic=False)
    return made


def _rewrite(module: nn.Module, form: Callable[[Any], Callable[..., nn.Module] | None]) -> nn.Module:
    """``module`` with each part that ``form`` has something for in that form."""
    if (make := form(module)) is not None:
        return make(module)
    for name, child in module.named_children():
        setattr(module, name, _rewrite(child, form))
    return module


def _folded(convolution: nn.Conv2d, norm: nn.Module) -> nn.Conv2d:
    return convolution if isinstance(norm, nn.Identity) else fuse_conv_bn_eval(convolution, norm)  # type: ignore[type-var]


FORMS: dict[str, Callable[[nn.Module], nn.Module]] = {
    "plain": still,
    "rewritten": rewritten,
    "channels-last": lambda module: ChannelsLast(still(module)),
    "rewritten, channels-last": lambda module: ChannelsLast(rewritten(module)),
    "winograd": winograd,
    "bf16, channels-last": lambda module: ChannelsLast(still(module), torch.bfloat16),
    "bf16, rewritten, channels-last": lambda module: ChannelsLast(rewritten(module), torch.bfloat16),
    "compiled": compiled,
}
"""Name → copy of a module in that form. "plain" is the reference: the module as it is."""
EAGER = tuple(name for name in FORMS if name != "compiled")
