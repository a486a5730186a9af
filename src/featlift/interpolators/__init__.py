"""Interpolators that upsample a feature map by 2, ``[B, C, H, W]`` → ``[B, C, 2H, 2W]`` for any H and W, and their registry.

Each is called as ``interpolator(x, guide)`` with a map ``guide [B, C, 2H, 2W]`` of the finer level; most ignore it.
"""

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
from featlift.interpolators.fade import FADE
from featlift.interpolators.fixed import BicubicInterpolator, BilinearInterpolator, NearestInterpolator
from featlift.interpolators.freqfusion import FreqFusion
from featlift.interpolators.jbu import JBU
from featlift.interpolators.lda_aqu import LDAAQU
from featlift.interpolators.light import ChannelAgnosticInterpolator, LightInterpolator
from featlift.interpolators.sapa import SAPA, DynamicSAPA
from featlift.interpolators.srf import SRF
from featlift.registry import check_options, look_up

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
    "lda-aqu": LDAAQU,
    "freqfusion": FreqFusion,
    "sapa": SAPA,
    "sapa-d": DynamicSAPA,
    "fade": FADE,
    "jbu": JBU,
    "srf": SRF,
    "afi": AFI,
    "afi-rb": SRF,  # AFI-GAN's residual-block variant equals SRF-GAN's generator with a 3x3 last convolution
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
    "lda-aqu",
    "freqfusion",
    "sapa",
    "sapa-d",
    "fade",
    "jbu",
)
"""Interpolators of which the papers use one instance per pyramid step; the others are shared by all steps."""

GUIDED_INTERPOLATORS = ("freqfusion", "sapa", "sapa-d", "fade", "jbu")
"""Interpolators that need the guide; without it they raise a ValueError."""


def interpolator(name: str, channels: int, **options: object) -> nn.Module:
    """Create an interpolator by its name in :data:`INTERPOLATORS`.

    ``interpolator("afi", 256)`` is AFI-GAN's generator; ``interpolator("srf", 64, norm="none", init="zero")`` is a narrow generator of
    SRF-GAN whose branch initially contributes nothing.

    Args:
        name: Name of the interpolator.
        channels: Number of channels C of the map.
        **options: Constructor arguments of the class.

    Raises:
        ValueError: If the name is unknown, ``channels`` is not positive, or the class has no such option.
    """
    factory = look_up(INTERPOLATORS, name, "interpolator")
    if channels < 1:
        raise ValueError(
            f"Cannot build an interpolator for {channels} channels; give the number of channels of the map, e.g. 256."
        )
    check_options(name, factory, options, skip=("channels",))
    return factory(channels, **options)


def list_interpolators() -> list[str]:
    """Return the names that `interpolator` and ``--model.interpolator`` accept."""
    return list(INTERPOLATORS)


def check_unguided(name: str, training: str) -> None:
    """Raise a ValueError if the interpolator ``name`` needs a guide; ``training`` names a training that has none, for the message."""
    if name in GUIDED_INTERPOLATORS:
        raise ValueError(
            f"{training} upsamples single maps of a pyramid, and '{name}' also reads the lateral map of the finer level. Train it with its "
            "detector instead (featlift train baseline, or reuse 'none'), or choose another interpolator, such as 'afi' or 'lda-aqu'."
        )


def build_interpolators(name: str, channels: int, num_steps: int, **options: object) -> list[nn.Module]:
    """Create one shared interpolator, or ``num_steps`` for the names in :data:`PER_STEP_INTERPOLATORS`, for the steps of a pyramid."""
    count = num_steps if name in PER_STEP_INTERPOLATORS else 1
    return [interpolator(name, channels, **options) for _ in range(count)]
