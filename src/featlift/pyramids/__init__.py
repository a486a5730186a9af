"""Feature pyramids: ``{c2 … c5}`` in, ``{p2 … p7}`` out; every doubling is done by an interpolator they were given.

``pyramid("pafpn", {"c2": 256, …}, 256, [afi], Subsampled())``; what there is, is in :data:`PYRAMID_LABELS`.
"""

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from torch import nn
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock

from featlift.pyramids import bifpn
from featlift.pyramids.bifpn import BiFPN
from featlift.pyramids.fpn import FPN, ConvP6P7, MaxPoolP6, NoLateralFPN
from featlift.pyramids.pafpn import PAFPN

__all__ = [
    "FPN",
    "PAFPN",
    "PYRAMIDS",
    "BiFPN",
    "ConvP6P7",
    "MaxPoolP6",
    "NoLateralFPN",
    "PyramidSpec",
    "pyramid",
    "pyramid_spec",
]


@dataclass(frozen=True)
class PyramidSpec:
    """What a pyramid is built by; the backbone levels it insists on (empty: those of the detector); how often it goes down.

    One that insists on its levels also makes all that is above c5 itself.
    """

    factory: Callable[..., nn.Module]
    backbone_levels: tuple[str, ...] = ()
    num_layers: int = 1

    def num_upsampling_steps(self, num_levels: int) -> int:
        """How many interpolators it takes to give every step its own, if the detector reads ``num_levels`` backbone levels."""
        return self.num_layers * (bifpn.STEPS_PER_LAYER if self.backbone_levels else num_levels - 1)


PYRAMIDS: dict[str, PyramidSpec] = {
    "fpn": PyramidSpec(FPN),
    "fpn-top-down": PyramidSpec(NoLateralFPN),  # B1 of AFI-GAN's Table 9
    "pafpn": PyramidSpec(PAFPN),
    "bifpn": PyramidSpec(BiFPN, bifpn.BIFPN_IN_LEVELS, 3),  # its ResNet rows
    "bifpn-7": PyramidSpec(partial(BiFPN, num_layers=7), bifpn.BIFPN_IN_LEVELS, 7),  # its Swin rows
}


def pyramid_spec(name: str) -> PyramidSpec:
    """The entry of :data:`PYRAMID_LABELS`. Raises ValueError for an unknown name."""
    if name not in PYRAMIDS:
        near = difflib.get_close_matches(name, PYRAMIDS, n=1)
        hint = f" Did you mean '{near[0]}'?" if near else ""
        raise ValueError(f"Unknown pyramid '{name}'.{hint} There are: {', '.join(PYRAMIDS)}.")
    return PYRAMIDS[name]


def pyramid(
    name: str,
    in_channels: Mapping[str, int],
    out_channels: int,
    interpolators: Sequence[nn.Module],
    extra_blocks: ExtraFPNBlock | None = None,
    norm_layer: Callable[[int], nn.Module] | None = None,
) -> nn.Module:
    """A new pyramid by its name in :data:`PYRAMID_LABELS`.

    Args:
        name: "fpn", "pafpn", "bifpn", …
        in_channels: name of each backbone level → its channels, fine → coarse.
        out_channels: C of every output.
        interpolators: one for all steps, or one for each, coarse → fine.
        extra_blocks: adds coarser levels; a BiFPN takes none.
        norm_layer: channels → the normalization after every convolution; None is the pyramid's own.

    Raises:
        ValueError: for an unknown name, or what the class behind it refuses.
    """
    return pyramid_spec(name).factory(in_channels, out_channels, interpolators, extra_blocks, norm_layer)
