"""What doubles a map: ``[B, C, H, W]`` → ``[B, C, 2H, 2W]``, for any H and W, behind one literal table of names."""

import difflib
import inspect
from collections.abc import Callable

from torch import nn

from featlift.interpolators.afi import AFI
from featlift.interpolators.carafe import CARAFE
from featlift.interpolators.conv import (
    Bicubic5Conv,
    Bilinear5Conv,
    Deconvolution,
    Nearest5Conv,
    PixelShuffleConv,
)
from featlift.interpolators.dysample import DySample
from featlift.interpolators.fixed import BicubicInterpolator, BilinearInterpolator, NearestInterpolator
from featlift.interpolators.light import ChannelAgnosticInterpolator, LightInterpolator
from featlift.interpolators.srf import SRF

INTERPOLATORS: dict[str, Callable[..., nn.Module]] = {
    "nearest": NearestInterpolator,
    "bilinear": BilinearInterpolator,
    "bicubic": BicubicInterpolator,
    "nearest-5conv": Nearest5Conv,
    "bilinear-5conv": Bilinear5Conv,
    "bicubic-5conv": Bicubic5Conv,
    "deconv": Deconvolution,
    "pixel-shuffle": PixelShuffleConv,
    "carafe": CARAFE,
    "dysample": DySample,
    "srf": SRF,
    "afi": AFI,
    "afi-rb": SRF,  # AFI-GAN's residual-block variant is SRF-GAN's generator with the 3x3 end
    "light": LightInterpolator,
    "light-agnostic": ChannelAgnosticInterpolator,
}

PER_STEP_INTERPOLATORS = (
    "nearest-5conv",
    "bilinear-5conv",
    "bicubic-5conv",
    "deconv",
    "pixel-shuffle",
    "carafe",
    "dysample",
)
"""Names of which the papers give every step of the pyramid its own; the others are shared by all steps."""


def interpolator(name: str, channels: int, **options: object) -> nn.Module:
    """A new interpolator by its name in :data:`INTERPOLATORS`.

    ``interpolator("afi", 256)`` is AFI-GAN's generator; ``interpolator("srf", 64, norm="none", init="zero")`` a narrow one of SRF-GAN
    that starts by adding nothing. ``options`` are the arguments of the class behind the name.

    Raises:
        ValueError: if the name is unknown, ``channels`` is not positive, or the class has no such option.
    """
    if name not in INTERPOLATORS:
        near = difflib.get_close_matches(name, INTERPOLATORS, n=1)
        hint = f" Did you mean '{near[0]}'?" if near else ""
        raise ValueError(f"Unknown interpolator '{name}'.{hint} There are: {', '.join(INTERPOLATORS)}.")
    if channels < 1:
        raise ValueError(
            f"An interpolator of {channels} channels cannot be built; give the channels of the map, e.g. 256."
        )
    build = INTERPOLATORS[name]
    known = [option for option in inspect.signature(build).parameters if option != "channels"]
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise ValueError(f"'{name}' has no option {', '.join(unknown)}; it has: {', '.join(known) or 'none'}.")
    return build(channels, **options)


def build_interpolators(name: str, channels: int, num_steps: int, **options: object) -> list[nn.Module]:
    """The interpolators of a pyramid with ``num_steps`` doublings: one shared module, or one per step for the names in :data:`PER_STEP_INTERPOLATORS`."""
    count = num_steps if name in PER_STEP_INTERPOLATORS else 1
    return [interpolator(name, channels, **options) for _ in range(count)]
