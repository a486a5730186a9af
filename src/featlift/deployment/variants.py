"""Inference variants of an interpolator: equivalent modules that are faster on some machines. Only the original module is trainable.

Which variant is fastest depends on the machine, the number of channels and the map size; `featlift.deployment.optimize` measures it.
"""

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from featlift.deployment.fused import FUSED_MODULES, replace_modules
from featlift.deployment.winograd import WINOGRAD_F2, WINOGRAD_F4, WinogradConv2d, WinogradTransforms, supports_winograd

MIN_WINOGRAD_CHANNELS = 64
"""Minimum number of channels for which the Winograd form of a 3x3 convolution is faster."""


class ChannelsLast(nn.Module):
    """A module with weights and maps in channels-last memory format.

    Args:
        module: Module, converted in place.
        dtype: Data type of weights and maps; None keeps it. The output has the type of the input.
    """

    def __init__(self, module: nn.Module, dtype: torch.dtype | None = None):
        super().__init__()
        self.module = module.to(dtype=dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.dtype = dtype

    def forward(self, x: Tensor, guide: Tensor | None = None) -> Tensor:
        """``[B, C, H, W]`` and, if the module needs it, a guide ``[B, C, 2H, 2W]`` → ``[B, C, 2H, 2W]``."""
        maps = [None if y is None else self._convert(y) for y in (x, guide)]
        return self.module(*maps).to(x.dtype)

    def _convert(self, x: Tensor) -> Tensor:
        return x.to(self.dtype or x.dtype, memory_format=torch.channels_last)


def inference_copy(module: nn.Module) -> nn.Module:
    """Return a frozen copy of ``module`` in evaluation mode.

    It has the forward of its class, without a replacement by `featlift.deployment.optimize.optimize`.
    """
    copied = copy.deepcopy(module).eval().requires_grad_(False)
    for submodule in copied.modules():
        submodule.__dict__.pop("forward", None)
    return copied


def fused_copy(module: nn.Module) -> nn.Module:
    """Return a copy of ``module`` with the replacements of `featlift.deployment.fused`.

    Equal to ``module`` in evaluation mode up to the order of summation: 1e-5 relative in float32.
    """
    return replace_modules(inference_copy(module), lambda submodule: FUSED_MODULES.get(type(submodule)))


def winograd_copy(module: nn.Module, transforms: WinogradTransforms = WINOGRAD_F4) -> nn.Module:
    """Return a :func:`fused_copy` whose wide 3x3 convolutions are :class:`~featlift.deployment.winograd.WinogradConv2d`."""

    def replacement_for(layer: Any) -> Callable[[Any], nn.Module] | None:
        is_wide = supports_winograd(layer) and min(layer.in_channels, layer.out_channels) >= MIN_WINOGRAD_CHANNELS
        return (lambda convolution: WinogradConv2d(convolution, transforms)) if is_wide else None

    return replace_modules(fused_copy(module), replacement_for)


def compiled_copy(module: nn.Module) -> nn.Module:
    """Return a channels-last :func:`fused_copy` with ``torch.compile``; needs a compiler, and half a minute for each new map size."""
    compiled = ChannelsLast(fused_copy(module))
    compiled.compile(dynamic=False)
    return compiled


VARIANTS: dict[str, Callable[[nn.Module], nn.Module]] = {
    "plain": inference_copy,
    "fused": fused_copy,
    "channels-last": lambda module: ChannelsLast(inference_copy(module)),
    "fused, channels-last": lambda module: ChannelsLast(fused_copy(module)),
    "winograd": lambda module: ChannelsLast(winograd_copy(module)),
    "bf16": lambda module: ChannelsLast(inference_copy(module), torch.bfloat16),
    "bf16, fused": lambda module: ChannelsLast(fused_copy(module), torch.bfloat16),
    "bf16, winograd 2x2": lambda module: ChannelsLast(winograd_copy(module, WINOGRAD_F2), torch.bfloat16),
    "bf16, winograd 4x4": lambda module: ChannelsLast(winograd_copy(module), torch.bfloat16),
    "compiled": compiled_copy,
}
"""Name → function that copies a module in that form; all but the first two are channels-last. "plain" is the unmodified reference."""
EAGER_VARIANTS = tuple(name for name in VARIANTS if name != "compiled")
"""Variants that need no compiler."""
