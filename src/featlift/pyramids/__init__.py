"""Feature pyramids: ``{c2 … c5}`` in, ``{p2 … p7}`` out; every doubling is done by an interpolator they were given.

``pyramid("pafpn", {"c2": 256, …}, 256, [afi], Subsampled())``; what there is, is in :data:`PYRAMIDS`.
"""

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from torch import nn
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock

from featlift.pyramids import bifpn
from featlift.pyramids.bifpn import BiFPN
from featlift.pyramids.fpn import FPN, Strided, Subsampled, TopDown
from featlift.pyramids.pafpn import PAFPN

__all__ = ["FPN", "PAFPN", "PYRAMIDS", "BiFPN", "Kind", "Strided", "Subsampled", "TopDown", "kind", "pyramid"]


@dataclass(frozen=True)
class Kind:
    """What a pyramid is built by; the backbone levels it insists on (empty: those of the detector); how often it goes down.

    One that insists on its levels also makes all that is above c5 itself.
    """

    build: Callable[..., nn.Module]
    levels: tuple[str, ...] = ()
    layers: int = 1

    def doublings(self, levels: int) -> int:
        """How many interpolators it takes to give every step its own, if the detector reads ``levels`` backbone levels."""
        return self.layers * (bifpn.STEPS if self.levels else levels - 1)


PYRAMIDS: dict[str, Kind] = {
    "fpn": Kind(FPN),
    "fpn-top-down": Kind(TopDown),  # B1 of AFI-GAN's Table 9
    "pafpn": Kind(PAFPN),
    "bifpn": Kind(BiFPN, bifpn.READS, 3),  # its ResNet rows
    "bifpn-7": Kind(partial(BiFPN, layers=7), bifpn.READS, 7),  # its Swin rows
}


def kind(name: str) -> Kind:
    """The entry of :data:`PYRAMIDS`. Raises ValueError for an unknown name."""
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
    top: ExtraFPNBlock | None = None,
    norm: Callable[[int], nn.Module] | None = None,
) -> nn.Module:
    """A new pyramid by its name in :data:`PYRAMIDS`.

    Args:
        name: "fpn", "pafpn", "bifpn", …
        in_channels: name of each backbone level → its channels, fine → coarse.
        out_channels: C of every output.
        interpolators: one for all steps, or one for each, coarse → fine.
        top: adds coarser levels; a BiFPN takes none.
        norm: channels → the normalisation after every convolution; None is the pyramid's own.

    Raises:
        ValueError: for an unknown name, or what the class behind it refuses.
    """
    return kind(name).build(in_channels, out_channels, interpolators, top, norm)
