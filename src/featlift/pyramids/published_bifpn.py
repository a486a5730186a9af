"""BiFPN published with AFI-GAN's Swin-L model, for its weights.

Differences to EfficientDet and :class:`featlift.pyramids.BiFPN`: fusion weights are neither rectified nor normalized; from the second
layer on, the bottom-up path takes the inputs of the first layer instead of the inputs of the layer; max-pooling pads with zeros, at the
right and bottom only.
"""

from collections.abc import Callable, Mapping, Sequence

import torch.nn.functional as nnf
from torch import Tensor, nn
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock

from featlift.checkpoints.init_args import store_init_args
from featlift.features import Features
from featlift.pyramids.bifpn import (
    BIFPN_IN_LEVELS,
    BIFPN_OUT_LEVELS,
    STEPS_PER_LAYER,
    BiFPN,
    BiFPNLayer,
    WeightedFusion,
    efficientdet_batch_norm,
)


class RawWeightedFusion(WeightedFusion):
    """Fusion with unnormalized weights."""

    def normalized_weights(self) -> Tensor:
        """Return the unnormalized weights ``[num_inputs]``."""
        return self.weights


class PublishedBiFPNLayer(BiFPNLayer):
    """Layer with unnormalized fusion weights and the published max-pooling.

    Args:
        channels: Number of channels C.
        norm_layer: Channels → normalization of every node.
    """

    def __init__(self, channels: int, norm_layer: Callable[[int], nn.Module] = efficientdet_batch_norm):
        super().__init__(channels, norm_layer)
        self.down = nn.ModuleList(RawWeightedFusion(2, channels, norm_layer) for _ in range(STEPS_PER_LAYER))
        self.up = nn.ModuleList(
            RawWeightedFusion(2 if i == STEPS_PER_LAYER else 3, channels, norm_layer)
            for i in range(1, STEPS_PER_LAYER + 1)
        )

    def downsample(self, x: Tensor) -> Tensor:
        """``[B, C, H, W]`` → ``[B, C, ⌈H/2⌉, ⌈W/2⌉]``."""
        return _zero_padded_max_pool_2x(x)


@store_init_args()
class PublishedBiFPN(BiFPN):
    """Published BiFPN: ``{c3, c4, c5}`` → ``{p3 … p7}`` for images whose sides are multiples of 128.

    Args:
        in_channels: Number of channels of c3, c4 and c5 (Swin-L: 384, 768, 1536).
        out_channels: Number of channels C of every output level (256).
        interpolators: One interpolator for all steps (as in the published file), or four per layer.
        extra_blocks: Must be None, as of :class:`~featlift.pyramids.bifpn.BiFPN`.
        norm_layer: Channels → normalization; the default is the published one, batch norm with EfficientDet's momentum and epsilon.
        num_layers: Number of layers; 7 in the published code.
    """

    def __init__(
        self,
        in_channels: Mapping[str, int],
        out_channels: int,
        interpolators: Sequence[nn.Module],
        extra_blocks: ExtraFPNBlock | None = None,
        norm_layer: Callable[[int], nn.Module] | None = None,
        num_layers: int = 7,
    ):
        super().__init__(in_channels, out_channels, interpolators, extra_blocks, norm_layer, num_layers)
        norm_layer = norm_layer or efficientdet_batch_norm
        self.layers = nn.ModuleList(PublishedBiFPNLayer(out_channels, norm_layer) for _ in range(num_layers))

    def forward(self, x: Features) -> Features:
        """``{"c3": [B, C3, H/8, W/8], …}`` → ``{"p3": [B, C, H/8, W/8], …, "p7": …}``; H and W are those of the image."""
        inputs, skips = self.input_maps(x)
        maps = inputs
        for number, layer in enumerate(self.layers):
            maps = layer(maps, inputs if number else skips, self.layer_interpolators(number))
        return dict(zip(BIFPN_OUT_LEVELS, maps, strict=True))

    def input_maps(self, x: Features) -> tuple[list[Tensor], list[Tensor]]:
        """Return the inputs p3 … p7 of the first layer's top-down and of its bottom-up path, each ``[B, C, H, W]``."""
        p6 = _zero_padded_max_pool_2x(self.p6(x["c5"]))
        laterals = [self.laterals[name](x[name]) for name in BIFPN_IN_LEVELS]
        coarse = [p6, _zero_padded_max_pool_2x(p6)]
        return laterals + coarse, [laterals[0], *(self.skips[name](x[name]) for name in BIFPN_IN_LEVELS[1:]), *coarse]


def _zero_padded_max_pool_2x(x: Tensor) -> Tensor:
    height, width = x.shape[-2:]
    return nnf.max_pool2d(nnf.pad(x, (0, 1 + width % 2, 0, 1 + height % 2)), 3, stride=2)
