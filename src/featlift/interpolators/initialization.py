"""Initialization of learned interpolators, and their fixed shortcut.

The published AFI-GAN code multiplies every Kaiming-initialized convolution by 0.1. The branch is then 1e-4 of the bilinear shortcut
and its gradients are 1e-5 to 1e-8 of its weights: a near-saddle. ``docs/papers/afi_gan.md`` compares the three schemes.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from featlift.interpolators.fixed import INTERPOLATION_MODES, FixedInterpolator
from featlift.registry import check_choice

INIT_SCHEMES = ("mild", "official", "zero")
SHORTCUT_MODES = (*INTERPOLATION_MODES, "none")


class Shortcut(nn.Module):
    """Fixed interpolation (:data:`SHORTCUT_MODES`) that is added to a learned branch; "none" disables it."""

    def __init__(self, channels: int, mode: str):
        super().__init__()
        check_choice(mode, SHORTCUT_MODES, "shortcut")
        self.interpolation = None if mode == "none" else FixedInterpolator(channels, mode)

    def forward(self, x: Tensor, branch: Tensor) -> Tensor:
        """Return ``branch [B, C, 2H, 2W]`` plus the upsampled ``x [B, C, H, W]``."""
        if self.interpolation is None:
            return branch
        return self.interpolation(x).add_(branch)  # in place, to write the large map once


def init_weights(module: nn.Module, init: str, last: nn.Module, scaled_parts: Sequence[nn.Module] = ()) -> None:
    """Initialize the convolutions of ``module``: Kaiming-normal weights (fan-in, gain √2), zero biases, then the scheme ``init``.

    * "official": all weights x 0.1, as published.
    * "mild": x 0.1 only in ``scaled_parts`` (the residual blocks) and in ``last``.
    * "zero": as "mild", with ``last`` exactly zero, so that the branch is zero until trained (the default of upgrades).

    Raises:
        ValueError: If ``init`` is unknown.
    """
    check_choice(init, INIT_SCHEMES, "initialization")
    _init_kaiming(module)
    for part in [module] if init == "official" else [*scaled_parts, last]:
        _scale_weights(part, 0.1)
    if init == "zero":
        _scale_weights(last, 0.0)


def _convolutions(module: nn.Module) -> list[nn.Conv2d | nn.ConvTranspose2d]:
    return [m for m in module.modules() if isinstance(m, (nn.Conv2d, nn.ConvTranspose2d))]


def _init_kaiming(module: nn.Module) -> None:
    for convolution in _convolutions(module):
        nn.init.kaiming_normal_(convolution.weight)
        if convolution.bias is not None:
            nn.init.zeros_(convolution.bias)


def _scale_weights(module: nn.Module, factor: float) -> None:
    with torch.no_grad():
        for convolution in _convolutions(module):
            convolution.weight.mul_(factor)
