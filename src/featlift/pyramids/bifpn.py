"""Bidirectional feature pyramid (EfficientDet: Tan et al., CVPR 2020) with exchangeable interpolators (AFI-GAN, Sec. 4.2).

Levels p3 … p7. Each layer has a top-down path with four interpolators and a bottom-up path with max-pooling; every node fuses its
inputs with learned weights. The code published with AFI-GAN neither rectifies nor normalizes these weights and feeds the inputs of the
first layer into the bottom-up paths of all later layers; this module follows EfficientDet. (:mod:`featlift.pyramids.published_bifpn` is the
published variant, for the published weights.)
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock

from featlift.checkpoints.init_args import store_init_args
from featlift.features import Features, crop_or_pad, spatial_size
from featlift.pyramids.fpn import check_interpolator_count

BIFPN_IN_LEVELS = ("c3", "c4", "c5")
BIFPN_OUT_LEVELS = ("p3", "p4", "p5", "p6", "p7")
BIFPN_UPSAMPLED_LEVELS = BIFPN_OUT_LEVELS[:0:-1]
"""Level that each upsampling step of a layer upsamples: p7, p6, p5, p4."""
STEPS_PER_LAYER = len(BIFPN_UPSAMPLED_LEVELS)
efficientdet_batch_norm: Callable[[int], nn.Module] = partial(nn.BatchNorm2d, momentum=0.01, eps=1e-3)


class WeightedFusion(nn.Module):
    """Fast normalized fusion (EfficientDet): weighted sum of maps of equal size, then a separable convolution.

    ``norm(pointwise(depthwise(swish(Σ w_k · x_k / Σ w_k))))`` with ``w = relu(weights)``.

    Args:
        num_inputs: Number of input maps.
        channels: Number of channels C.
        norm_layer: Channels → normalization after the convolution.
    """

    def __init__(self, num_inputs: int, channels: int, norm_layer: Callable[[int], nn.Module]):
        super().__init__()
        self.weights = nn.Parameter(torch.ones(num_inputs))
        self.depthwise = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)
        self.pointwise = nn.Conv2d(channels, channels, 1)
        self.norm = norm_layer(channels)

    def normalized_weights(self) -> Tensor:
        """Return the fusion weights ``[num_inputs]``: not negative, with sum 1 (0 if all weights are negative)."""
        weights = self.weights.relu()
        return weights / (weights.sum() + 1e-4)

    def forward(self, *maps: Tensor) -> Tensor:
        """``num_inputs`` maps ``[B, C, H, W]`` → ``[B, C, H, W]``."""
        fused = sum(weight * x for weight, x in zip(self.normalized_weights(), maps, strict=True))
        return self.norm(self.pointwise(self.depthwise(nnf.silu(fused))))  # type: ignore[arg-type]


class BiFPNLayer(nn.Module):
    """One top-down and one bottom-up path: ``t_i = down_i(x_i, G(t_{i+1}, x_i))``, ``y_i = up_i(skip_i, t_i, downsample(y_{i-1}))``.

    Args:
        channels: Number of channels C.
        norm_layer: Channels → normalization of every node.
    """

    def __init__(self, channels: int, norm_layer: Callable[[int], nn.Module]):
        super().__init__()
        self.down = nn.ModuleList(WeightedFusion(2, channels, norm_layer) for _ in range(STEPS_PER_LAYER))
        self.up = nn.ModuleList(
            WeightedFusion(2 if i == STEPS_PER_LAYER else 3, channels, norm_layer)
            for i in range(1, STEPS_PER_LAYER + 1)
        )

    def forward(self, x: list[Tensor], skips: list[Tensor], interpolators: Sequence[nn.Module]) -> list[Tensor]:
        """Return p3 … p7 from ``x`` and ``skips`` (p3 … p7, each ``[B, C, H, W]``); one interpolator or one per step, coarse → fine."""
        top_down = [x[-1]]
        for step, (fusion, lateral) in enumerate(zip(self.down, x[-2::-1], strict=True)):
            upsampled = interpolators[step % len(interpolators)](top_down[0], lateral)
            top_down.insert(0, fusion(lateral, crop_or_pad(upsampled, spatial_size(lateral))))
        intermediate = [[t] for t in top_down[1:-1]] + [[]]
        bottom_up = top_down[:1]
        for fusion, skip, t in zip(self.up, skips[1:], intermediate, strict=True):
            bottom_up.append(fusion(skip, *t, crop_or_pad(self.downsample(bottom_up[-1]), spatial_size(skip))))
        return bottom_up

    def downsample(self, x: Tensor) -> Tensor:
        """``[B, C, H, W]`` → ``[B, C, ⌈H/2⌉, ⌈W/2⌉]`` by 3x3 max-pooling."""
        return max_pool_2x(x)


@store_init_args()
class BiFPN(nn.Module):
    """BiFPN: ``{c3, c4, c5}`` → ``{p3 … p7}``.

    Args:
        in_channels: Number of channels of c3, c4 and c5.
        out_channels: Number of channels C of every output level.
        interpolators: One interpolator for all steps of all layers, or four per layer, coarse → fine, layer by layer.
        extra_blocks: Must be None: p6 is a normalized 1x1 convolution of c5 downsampled by 2, p7 is p6 downsampled by 2.
        norm_layer: Channels → normalization; the default is batch norm with EfficientDet's momentum and epsilon. In training, batch norm
            needs more than one image, or images larger than 128 px.
        num_layers: Number of layers: 3 (AFI-GAN's ResNet rows) or 7 (its Swin rows).

    Raises:
        ValueError: For other levels, given ``extra_blocks``, fewer than one layer, or a wrong number of interpolators.
    """

    levels = BIFPN_OUT_LEVELS
    size_divisible = 128

    def __init__(
        self,
        in_channels: Mapping[str, int],
        out_channels: int,
        interpolators: Sequence[nn.Module],
        extra_blocks: ExtraFPNBlock | None = None,
        norm_layer: Callable[[int], nn.Module] | None = None,
        num_layers: int = 3,
    ):
        super().__init__()
        if tuple(in_channels) != BIFPN_IN_LEVELS or extra_blocks is not None or num_layers < 1:
            raise ValueError(
                f"A BiFPN needs the levels {', '.join(BIFPN_IN_LEVELS)}, extra_blocks=None and num_layers >= 1; "
                f"given: {', '.join(in_channels)}, extra_blocks={extra_blocks} and num_layers={num_layers}."
            )
        self.in_channels, self.out_channels = dict(in_channels), out_channels
        norm_layer = norm_layer or efficientdet_batch_norm
        self.laterals = nn.ModuleDict(
            {name: _projection(c, out_channels, norm_layer) for name, c in in_channels.items()}
        )
        self.skips = nn.ModuleDict(
            {name: _projection(in_channels[name], out_channels, norm_layer) for name in BIFPN_IN_LEVELS[1:]}
        )
        self.p6 = _projection(in_channels["c5"], out_channels, norm_layer)
        self.layers = nn.ModuleList(BiFPNLayer(out_channels, norm_layer) for _ in range(num_layers))
        self.upsampled_levels = BIFPN_UPSAMPLED_LEVELS * num_layers
        self.interpolators = nn.ModuleList(check_interpolator_count(interpolators, len(self.upsampled_levels)))

    def forward(self, x: Features) -> Features:
        """``{"c3": [B, C3, H/8, W/8], …}`` → ``{"p3": [B, C, H/8, W/8], …, "p7": …}``; H and W are those of the image."""
        maps, skips = self.input_maps(x)
        for number, layer in enumerate(self.layers):
            maps = layer(maps, skips if number == 0 else maps, self.layer_interpolators(number))
        return dict(zip(BIFPN_OUT_LEVELS, maps, strict=True))

    def input_maps(self, x: Features) -> tuple[list[Tensor], list[Tensor]]:
        """Return the inputs p3 … p7 of the first layer's top-down and of its bottom-up path, each ``[B, C, H, W]``."""
        p6 = max_pool_2x(self.p6(x["c5"]))
        coarse = [p6, max_pool_2x(p6)]
        laterals = [self.laterals[name](x[name]) for name in BIFPN_IN_LEVELS]
        return laterals + coarse, [laterals[0], *(self.skips[name](x[name]) for name in BIFPN_IN_LEVELS[1:]), *coarse]

    def layer_interpolators(self, layer: int) -> list[nn.Module]:
        """Return the interpolator shared by all layers, or the four of this layer."""
        interpolators = list(self.interpolators)
        if len(interpolators) == 1:
            return interpolators
        return interpolators[STEPS_PER_LAYER * layer : STEPS_PER_LAYER * (layer + 1)]


def max_pool_2x(x: Tensor) -> Tensor:
    """Downsample ``[B, C, H, W]`` to ``[B, C, ⌈H/2⌉, ⌈W/2⌉]`` by 3x3 max-pooling on the grid of a strided 3x3 convolution."""
    return nnf.max_pool2d(x, 3, stride=2, padding=1)


def _projection(channels: int, out_channels: int, norm_layer: Callable[[int], nn.Module]) -> nn.Module:
    return nn.Sequential(nn.Conv2d(channels, out_channels, 1), norm_layer(out_channels))
