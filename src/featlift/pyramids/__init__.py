"""Feature pyramids: ``{c2 … c5}`` → ``{p2 … p7}``, with exchangeable interpolators for upsampling.

Example: ``pyramid("pafpn", {"c2": 256, …}, 256, [afi], MaxPoolP6())``; :data:`PYRAMIDS` lists the names.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from torch import nn
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock

from featlift.pyramids import bifpn
from featlift.pyramids.bifpn import BiFPN
from featlift.pyramids.fpn import FPN, ConvP6P7, MaxPoolP6, NoLateralFPN, fpn_upsampled_levels
from featlift.pyramids.pafpn import PAFPN
from featlift.pyramids.published_bifpn import PublishedBiFPN
from featlift.registry import look_up

__all__ = [
    "FPN",
    "PAFPN",
    "PYRAMIDS",
    "BiFPN",
    "ConvP6P7",
    "MaxPoolP6",
    "NoLateralFPN",
    "PyramidSpec",
    "list_pyramids",
    "pyramid",
    "pyramid_spec",
]


@dataclass(frozen=True)
class PyramidSpec:
    """Registry entry of a pyramid.

    Attributes:
        factory: Builds the pyramid.
        backbone_levels: Required backbone levels; such a pyramid also builds all levels above c5. Empty: the levels of the detector.
        num_layers: Number of top-down passes.
    """

    factory: Callable[..., nn.Module]
    backbone_levels: tuple[str, ...] = ()
    num_layers: int = 1

    def upsampled_levels(self, detector_levels: Sequence[str]) -> tuple[str, ...]:
        """Return the level that each upsampling step upsamples, for a detector that reads ``detector_levels`` (fine → coarse)."""
        one_layer = bifpn.BIFPN_UPSAMPLED_LEVELS if self.backbone_levels else fpn_upsampled_levels(detector_levels)
        return one_layer * self.num_layers


PYRAMIDS: dict[str, PyramidSpec] = {
    "fpn": PyramidSpec(FPN),
    "fpn-no-lateral": PyramidSpec(NoLateralFPN),  # B1 of AFI-GAN's Table 9
    "pafpn": PyramidSpec(PAFPN),
    "bifpn": PyramidSpec(BiFPN, bifpn.BIFPN_IN_LEVELS, 3),  # AFI-GAN's ResNet rows
    "bifpn-7": PyramidSpec(partial(BiFPN, num_layers=7), bifpn.BIFPN_IN_LEVELS, 7),  # AFI-GAN's Swin rows
    "bifpn-published": PyramidSpec(PublishedBiFPN, bifpn.BIFPN_IN_LEVELS, 7),  # for the weights of AFI-GAN's Swin-L
}


def list_pyramids() -> list[str]:
    """Return the names that `pyramid` and ``--model.pyramid`` accept."""
    return list(PYRAMIDS)


def pyramid_spec(name: str) -> PyramidSpec:
    """Return the entry of :data:`PYRAMIDS`. Raises ValueError for an unknown name."""
    return look_up(PYRAMIDS, name, "pyramid")


def pyramid(
    name: str,
    in_channels: Mapping[str, int],
    out_channels: int,
    interpolators: Sequence[nn.Module],
    extra_blocks: ExtraFPNBlock | None = None,
    norm_layer: Callable[[int], nn.Module] | None = None,
) -> nn.Module:
    """Create a pyramid by its name in :data:`PYRAMIDS`.

    Args:
        name: Name of the pyramid: "fpn", "pafpn", "bifpn", …
        in_channels: Backbone level → its number of channels, fine → coarse.
        out_channels: Number of channels C of every output level.
        interpolators: One interpolator for all steps, or one per step, coarse → fine.
        extra_blocks: Adds coarser levels; must be None for a BiFPN.
        norm_layer: Channels → normalization after every convolution; None selects the pyramid's default.

    Raises:
        ValueError: If the name is unknown or the pyramid does not support the arguments.
    """
    return pyramid_spec(name).factory(in_channels, out_channels, interpolators, extra_blocks, norm_layer)
