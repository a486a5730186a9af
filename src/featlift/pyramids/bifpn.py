"""Bidirectional feature pyramid (EfficientDet: Tan et al., CVPR 2020) that is *given* what doubles its maps (AFI-GAN, Sec. 4.2).

Levels p3 … p7; each layer goes down through four interpolators and up again through max-pooling, and every junction weighs its
inputs. The code published with AFI-GAN neither rectifies nor normalises these weights, and feeds the way up of later layers with
the maps from before the first; we do as EfficientDet says. (``featlift.conversion.bifpn`` is the published variant, for the
published weights.)
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock

from featlift.checkpoints.init_args import remember
from featlift.features import Features, fit
from featlift.pyramids.fpn import one_or_each

READS = ("c3", "c4", "c5")
GIVES = ("p3", "p4", "p5", "p6", "p7")
STEPS = len(GIVES) - 1
batch_norm: Callable[[int], nn.Module] = partial(nn.BatchNorm2d, momentum=0.01, eps=1e-3)


class Junction(nn.Module):
    """Inputs of one size, weighed, summed, and passed through a separable convolution.

    ``norm(pointwise(depthwise(swish(Σ w_k · x_k / Σ w_k))))`` with ``w = relu(weights)`` (EfficientDet's fast normalised fusion).

    Args:
        inputs: how many maps meet here.
        channels: C.
        norm: channels → the normalisation at the end.
    """

    def __init__(self, inputs: int, channels: int, norm: Callable[[int], nn.Module]):
        super().__init__()
        self.weights = nn.Parameter(torch.ones(inputs))
        self.depthwise = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)
        self.pointwise = nn.Conv2d(channels, channels, 1)
        self.norm = norm(channels)

    def shares(self) -> Tensor:
        """What each input counts: ``[inputs]``, not negative, with sum 1 (0 if all weights are negative)."""
        weights = self.weights.relu()
        return weights / (weights.sum() + 1e-4)

    def forward(self, *maps: Tensor) -> Tensor:
        """As many ``[B, C, H, W]`` as there are inputs → ``[B, C, H, W]``."""
        fused = sum(share * x for share, x in zip(self.shares(), maps, strict=True))
        return self.norm(self.pointwise(self.depthwise(nnf.silu(fused))))  # type: ignore[arg-type]


class Layer(nn.Module):
    """Once down and once up: ``t_i = down_i(x_i, G(t_{i+1}))``, then ``y_i = up_i(skip_i, t_i, halved y_{i-1})``.

    Args:
        channels: C.
        norm: channels → the normalisation of every junction.
    """

    def __init__(self, channels: int, norm: Callable[[int], nn.Module]):
        super().__init__()
        self.down = nn.ModuleList(Junction(2, channels, norm) for _ in range(STEPS))
        self.up = nn.ModuleList(Junction(2 if i == STEPS else 3, channels, norm) for i in range(1, STEPS + 1))

    def forward(self, x: list[Tensor], skips: list[Tensor], interpolators: Sequence[nn.Module]) -> list[Tensor]:
        """``x``, ``skips``: p3 … p7, each ``[B, C, H, W]``; one interpolator or one per step, coarse → fine. Returns p3 … p7."""
        top_down = [x[-1]]
        for step, (junction, own) in enumerate(zip(self.down, x[-2::-1], strict=True)):
            larger = interpolators[step % len(interpolators)](top_down[0])
            top_down.insert(0, junction(own, fit(larger, _size(own))))
        middle = [[t] for t in top_down[1:-1]] + [[]]
        up = top_down[:1]
        for junction, skip, between in zip(self.up, skips[1:], middle, strict=True):
            up.append(junction(skip, *between, fit(self.halve(up[-1]), _size(skip))))
        return up

    def halve(self, x: Tensor) -> Tensor:
        """``[B, C, H, W]`` → ``[B, C, ⌈H/2⌉, ⌈W/2⌉]``, the largest of 3x3 cells."""
        return halve(x)


@remember()
class BiFPN(nn.Module):
    """``{c3, c4, c5}`` in, ``{p3 … p7}`` out.

    Args:
        in_channels: channels of c3, c4 and c5.
        out_channels: C of every output.
        interpolators: what doubles a map: one for all steps of all layers, or four for each layer, coarse → fine, layer by layer.
        top: must be None: p6 is half of a normalised 1x1 convolution of c5, p7 half of p6.
        norm: channels → the normalisation; by default batch norm with EfficientDet's momentum and epsilon. In training, batch norm
            needs more than one picture, or pictures larger than 128 px.
        layers: 3 (the paper's ResNet rows) or 7 (its Swin rows).

    Raises:
        ValueError: for other levels, a ``top``, fewer than one layer, or a wrong number of interpolators.
    """

    levels = GIVES
    divisible = 128

    def __init__(
        self,
        in_channels: Mapping[str, int],
        out_channels: int,
        interpolators: Sequence[nn.Module],
        top: ExtraFPNBlock | None = None,
        norm: Callable[[int], nn.Module] | None = None,
        layers: int = 3,
    ):
        super().__init__()
        if tuple(in_channels) != READS or top is not None or layers < 1:
            raise ValueError(
                f"A BiFPN reads {', '.join(READS)}, makes p6 and p7 itself (top=None) and has one layer or more; it was given "
                f"{', '.join(in_channels)}, top={top} and {layers} layers."
            )
        self.in_channels, self.out_channels = dict(in_channels), out_channels
        norm = norm or batch_norm
        self.laterals = nn.ModuleDict({name: _project(c, out_channels, norm) for name, c in in_channels.items()})
        self.skips = nn.ModuleDict({name: _project(in_channels[name], out_channels, norm) for name in READS[1:]})
        self.p6 = _project(in_channels["c5"], out_channels, norm)
        self.layers = nn.ModuleList(Layer(out_channels, norm) for _ in range(layers))
        self.interpolators = nn.ModuleList(one_or_each(interpolators, STEPS * layers))

    def forward(self, x: Features) -> Features:
        """``{"c3": [B, C3, H/8, W/8], …}`` → ``{"p3": [B, C, H/8, W/8], …, "p7": …}``; H and W are those of the picture."""
        maps, skips = self.inputs(x)
        for number, layer in enumerate(self.layers):
            maps = layer(maps, skips if number == 0 else maps, self.interpolators_of(number))
        return dict(zip(GIVES, maps, strict=True))

    def inputs(self, x: Features) -> tuple[list[Tensor], list[Tensor]]:
        """The maps before the first layer, p3 … p7 as ``[B, C, H, W]``, and what its way up takes in their place."""
        p6 = halve(self.p6(x["c5"]))
        coarse = [p6, halve(p6)]
        laterals = [self.laterals[name](x[name]) for name in READS]
        return laterals + coarse, [laterals[0], *(self.skips[name](x[name]) for name in READS[1:]), *coarse]

    def interpolators_of(self, layer: int) -> list[nn.Module]:
        """The one interpolator that all share, or the four of this layer."""
        every = list(self.interpolators)
        return every if len(every) == 1 else every[STEPS * layer : STEPS * (layer + 1)]


def halve(x: Tensor) -> Tensor:
    """``[B, C, H, W]`` → ``[B, C, ⌈H/2⌉, ⌈W/2⌉]``: the largest of 3x3 around every second cell, on a strided convolution's grid."""
    return nnf.max_pool2d(x, 3, stride=2, padding=1)


def _project(channels: int, out_channels: int, norm: Callable[[int], nn.Module]) -> nn.Module:
    return nn.Sequential(nn.Conv2d(channels, out_channels, 1), norm(out_channels))


def _size(x: Tensor) -> tuple[int, int]:
    return x.shape[-2], x.shape[-1]
