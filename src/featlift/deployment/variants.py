"""The same interpolator in other forms: equal functions that some machine computes faster. Made for inference; the original is what learns.

Which form is fastest depends on the machine, the channels and the map: `featlift.deployment.optimize` measures it.
"""

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from featlift.deployment.fused import FUSED_MODULES, replace_modules
from featlift.deployment.winograd import WINOGRAD_F2, WINOGRAD_F4, WinogradConv2d, WinogradTransforms, supports_winograd

MIN_WINOGRAD_CHANNELS = 64
"""Channels from which on a 3x3 convolution gains by the transforms around it."""


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


def inference_copy(module: nn.Module) -> nn.Module:
    """A copy of ``module`` for inference, by its own forward (`featlift.deployment.optimize.optimize` may have put another in its place)."""
    copied = copy.deepcopy(module).eval().requires_grad_(False)
    for part in copied.modules():
        part.__dict__.pop("forward", None)
    return copied


def fused_copy(module: nn.Module) -> nn.Module:
    """A copy of ``module`` with what `featlift.deployment.fused` has for its parts.

    Equal to ``module`` in evaluation mode up to the order of the sums: 1e-5 relative in float32.
    """
    return replace_modules(inference_copy(module), lambda part: FUSED_MODULES.get(type(part)))


def winograd_copy(module: nn.Module, transforms: WinogradTransforms = WINOGRAD_F4) -> nn.Module:
    """:func:`fused_copy`, and in it the wide 3x3 convolutions as :class:`~featlift.deployment.winograd.WinogradConv2d`."""

    def wide(part: Any) -> Callable[[Any], nn.Module] | None:
        is_wide = supports_winograd(part) and min(part.in_channels, part.out_channels) >= MIN_WINOGRAD_CHANNELS
        return (lambda convolution: WinogradConv2d(convolution, transforms)) if is_wide else None

    return replace_modules(fused_copy(module), wide)


def compiled_copy(module: nn.Module) -> nn.Module:
    """:func:`fused_copy`, channels last, through ``torch.compile``: needs a compiler, and half a minute at the first map of each size."""
    made = ChannelsLast(fused_copy(module))
    made.compile(dynamic=False)
    return made


VARIANTS: dict[str, Callable[[nn.Module], nn.Module]] = {
    "plain": inference_copy,
    "rewritten": fused_copy,
    "channels-last": lambda module: ChannelsLast(inference_copy(module)),
    "rewritten, channels-last": lambda module: ChannelsLast(fused_copy(module)),
    "winograd": lambda module: ChannelsLast(winograd_copy(module)),
    "bf16": lambda module: ChannelsLast(inference_copy(module), torch.bfloat16),
    "bf16, rewritten": lambda module: ChannelsLast(fused_copy(module), torch.bfloat16),
    "bf16, winograd 2x2": lambda module: ChannelsLast(winograd_copy(module, WINOGRAD_F2), torch.bfloat16),
    "bf16, winograd 4x4": lambda module: ChannelsLast(winograd_copy(module), torch.bfloat16),
    "compiled": compiled_copy,
}
"""Name → copy of a module in that form, all but the first two channels last. "plain" is the reference: the module as it is."""
EAGER_VARIANTS = tuple(name for name in VARIANTS if name != "compiled")
"""Those that need no compiler."""
