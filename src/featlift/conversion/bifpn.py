"""The BiFPN that was published with AFI-GAN's Swin-L model, quirks included, for its weights; and the rules for their names.

Other than in EfficientDet and in :class:`featlift.pyramids.BiFPN`: fusion weights are neither rectified nor normalised; from the
second layer on, the way up takes the maps from before the first layer instead of those the layer was given; max-pooling pads with
zeros, at the right and bottom only.
"""

from collections.abc import Mapping, Sequence

import torch.nn.functional as nnf
from torch import Tensor, nn

from featlift.checkpoints.init_args import remember
from featlift.conversion.rules import Rule
from featlift.features import Features
from featlift.pyramids.bifpn import GIVES, READS, STEPS, BiFPN, Junction, Layer, batch_norm


class RawJunction(Junction):
    """A junction whose weights count as they are."""

    def shares(self) -> Tensor:
        """The weights ``[inputs]``, of any sign and sum."""
        return self.weights


class PublishedLayer(Layer):
    """A layer of raw junctions, with the published max-pooling."""

    def __init__(self, channels: int):
        super().__init__(channels, batch_norm)
        self.down = nn.ModuleList(RawJunction(2, channels, batch_norm) for _ in range(STEPS))
        self.up = nn.ModuleList(RawJunction(2 if i == STEPS else 3, channels, batch_norm) for i in range(1, STEPS + 1))

    def halve(self, x: Tensor) -> Tensor:
        """``[B, C, H, W]`` → ``[B, C, H/2, W/2]`` for even H and W."""
        return _halve(x)


@remember()
class PublishedBiFPN(BiFPN):
    """``{c3, c4, c5}`` of a picture whose sides are multiples of 128 in, ``{p3 … p7}`` out.

    Args:
        in_channels: channels of c3, c4 and c5 (Swin-L: 384, 768, 1536).
        out_channels: C (256).
        interpolators: one for all steps (the published file has one), or four for each layer.
        layers: 7; the published code has no other number.
    """

    def __init__(
        self, in_channels: Mapping[str, int], out_channels: int, interpolators: Sequence[nn.Module], layers: int = 7
    ):
        super().__init__(in_channels, out_channels, interpolators, layers=layers)
        self.layers = nn.ModuleList(PublishedLayer(out_channels) for _ in range(layers))

    def forward(self, x: Features) -> Features:
        """``{"c3": [B, C3, H/8, W/8], …}`` → ``{"p3": [B, C, H/8, W/8], …, "p7": …}``; H and W are those of the picture."""
        before, skips = self.inputs(x)
        maps = before
        for number, layer in enumerate(self.layers):
            maps = layer(maps, before if number else skips, self.interpolators_of(number))
        return dict(zip(GIVES, maps, strict=True))

    def inputs(self, x: Features) -> tuple[list[Tensor], list[Tensor]]:
        """The maps before the first layer, ``[B, C, H, W]`` for p3 … p7, and what its way up takes in their place."""
        p6 = _halve(self.p6(x["c5"]))
        laterals = [self.laterals[name](x[name]) for name in READS]
        coarse = [p6, _halve(p6)]
        return laterals + coarse, [laterals[0], *(self.skips[name](x[name]) for name in READS[1:]), *coarse]


def _halve(x: Tensor) -> Tensor:
    return nnf.max_pool2d(nnf.pad(x, (0, 1, 0, 1)), 3, stride=2)


def bifpn_rules() -> list[Rule]:
    """Their names of the neck (their "up" is up-sampling, our ``up`` the way up) into :class:`PublishedBiFPN`, without G."""
    rest = r"\.(.+)"
    layer = r"BiFPNLayer_(\d+)_"
    return [
        Rule(r"before_bifpn\.lateral([345])" + rest, r"laterals.c\1.\2"),
        Rule(r"before_bifpn\.p([45])_skip" + rest, r"skips.c\1.\2"),
        Rule(r"before_bifpn\.top_block\.p6\.conv" + rest, r"p6.0.\1"),
        Rule(r"before_bifpn\.top_block\.p6\.norm" + rest, r"p6.1.\1"),
        Rule(layer + r"conv([3456])_up" + rest, lambda m: f"layers.{m[1]}.down.{6 - int(m[2])}.{m[3]}"),
        Rule(layer + r"conv([4567])_down" + rest, lambda m: f"layers.{m[1]}.up.{int(m[2]) - 4}.{m[3]}"),
        Rule(layer + r"p([3456])_w1", lambda m: f"layers.{m[1]}.down.{6 - int(m[2])}.weights"),
        Rule(layer + r"p([4567])_w2", lambda m: f"layers.{m[1]}.up.{int(m[2]) - 4}.weights"),
    ]
