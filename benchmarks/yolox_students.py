"""Students: modules that replace a part of the pass on the enlarged image by upsampling a map of the plain pass.

Each maps a dictionary of `yolox_cache.INPUTS` to the enlarged image's map of reduce_conv1, ``[B, 64, 52, 52]`` for an image of 416 px
(any multiple of 32 is possible).
"""

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from yolox_network import YOLOXNano

from featlift import interpolator

REDUCE_CHANNELS, LATERAL_CHANNELS = 64, 128
Maps = dict[str, Tensor]


def build_student(name: str, network: YOLOXNano, options: dict[str, Any] | None = None) -> nn.Module:
    """Build a student.

    Args:
        name: ``bound``, ``lateral``, ``reduce``, the last two also with ``:INTERPOLATOR``, or the name of an interpolator alone.
        network: Frozen detector.
        options: Arguments of `LateralUpsampler` or `ReduceUpsampler`.
    """
    kind, *interpolator_name = name.split(":")
    if kind == "bound":
        return EnlargedPass(network)
    if kind == "lateral":
        return LateralUpsampler(network, *interpolator_name, **(options or {}))
    if kind == "reduce":
        return ReduceUpsampler(network, *interpolator_name, **(options or {}))
    return UnguidedUpsampler(name)


class UnguidedUpsampler(nn.Module):
    """An interpolator of FeatLift on reduce_conv1's map, without other inputs."""

    inputs = ("reduce_conv1",)

    def __init__(self, name: str):
        super().__init__()
        self.upsample = interpolator(name, REDUCE_CHANNELS)

    def forward(self, maps: Maps) -> Tensor:
        """``reduce_conv1 [B, 64, h, w]`` → ``[B, 64, 2h, 2w]``."""
        return self.upsample(maps["reduce_conv1"])


class ResidualBlock(nn.Module):
    """``x + f(x)`` with f a 1x1, a depthwise and a 1x1 convolution."""

    def __init__(self, channels: int, kernel_size: int = 5):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(channels, channels, 1),
            nn.SiLU(),
            nn.Conv2d(channels, channels, kernel_size, padding=kernel_size // 2, groups=channels),
            nn.SiLU(),
            nn.Conv2d(channels, channels, 1),
        )
        nn.init.normal_(self.layers[-1].weight, std=0.01)
        nn.init.zeros_(self.layers[-1].bias)

    def forward(self, x: Tensor) -> Tensor:
        """``[B, C, h, w]`` → ``[B, C, h, w]``."""
        return x + self.layers(x)


class ReduceUpsampler(nn.Module):
    """An interpolator of reduce_conv1's map, corrected by a small network with further inputs (guides).

    At the output's stride its inputs are the upsampled map, ``dark3`` and ``c3_p3`` of the plain pass, and ``dark3`` of the enlarged image
    after a separable convolution of stride 2 that is initialized with dark4's first one. A second branch works at twice that stride.

    Args:
        network: Frozen detector.
        name: Interpolator.
        guides: Of ``dark3 c3_p3 enlarged_dark3 c3_n3``.
        width: Channels at the output's stride; twice as many at the coarser one.
        blocks: Residual blocks before, in and after the coarser branch.
    """

    def __init__(
        self,
        network: YOLOXNano,
        name: str = "nearest",
        guides: tuple[str, ...] = ("dark3", "c3_p3", "enlarged_dark3", "c3_n3"),
        width: int = 96,
        blocks: tuple[int, int, int] = (1, 3, 2),
    ):
        super().__init__()
        self.inputs = ("reduce_conv1", *guides)
        self.upsample = interpolator(name, REDUCE_CHANNELS)
        channels = REDUCE_CHANNELS + 64 * sum(guide in guides for guide in ("dark3", "c3_p3"))
        if "enlarged_dark3" in guides:
            self.downsample = copy.deepcopy(network.body.dark4[0]).requires_grad_(True)
            channels += 128
        before, context, after = blocks
        self.input_layer = nn.Sequential(nn.Conv2d(channels, width, 1), nn.SiLU())
        self.before = nn.Sequential(*(ResidualBlock(width, 3) for _ in range(before)))
        self.context = nn.Sequential(
            nn.Conv2d(width + REDUCE_CHANNELS + 128 * ("c3_n3" in guides), 2 * width, 1),
            nn.SiLU(),
            *(ResidualBlock(2 * width, 5) for _ in range(context)),
            nn.Conv2d(2 * width, width, 1),
        )
        self.after = nn.Sequential(*(ResidualBlock(width, 3) for _ in range(after)))
        self.output_layer = nn.Conv2d(width + REDUCE_CHANNELS, REDUCE_CHANNELS, 1)

    def forward(self, maps: Maps) -> Tensor:
        """``reduce_conv1 [B, 64, h, w]`` and the guides → ``[B, 64, 2h, 2w]``."""
        upsampled = self.upsample(maps["reduce_conv1"])
        fine = [upsampled] + [maps[name] for name in ("dark3", "c3_p3") if name in self.inputs]
        if "enlarged_dark3" in self.inputs:
            fine.append(self.downsample(maps["enlarged_dark3"]))
        x = self.before(self.input_layer(torch.cat(fine, 1)))
        coarse = [F.avg_pool2d(x, 2), maps["reduce_conv1"]] + [maps[name] for name in ("c3_n3",) if name in self.inputs]
        x = self.after(x + F.interpolate(self.context(torch.cat(coarse, 1)), scale_factor=2, mode="bilinear"))
        return F.silu(self.output_layer(torch.cat([x, upsampled], 1)))


class LateralUpsampler(nn.Module):
    """An interpolator of lateral_conv0's map from stride 32 to 16, followed by the frozen C3_p4 and reduce_conv1.

    dark4 of the enlarged image is computed as in the detector.

    Args:
        network: Frozen detector.
        name: Interpolator.
        guided: Whether a small network corrects the upsampled map. Its inputs are dark4 of the enlarged image (averaged over 2x2) and the
            plain pass's maps at stride 16.
        width: Its channels.
        blocks: Its residual blocks.
        adapted: Whether C3_p4 and reduce_conv1 are copies that are trained too, at a tenth of the learning rate; no further latency.
    """

    def __init__(
        self,
        network: YOLOXNano,
        name: str = "nearest",
        guided: bool = True,
        width: int = 128,
        blocks: int = 3,
        adapted: bool = False,
    ):
        super().__init__()
        self.inputs = ("lateral_conv0", "enlarged_dark3", *(("c3_n3", "reduce_conv1") if guided else ()))
        self.frozen = [network]  # in a list: not a part of the student's state
        self.upsample = interpolator(name, LATERAL_CHANNELS)
        self.guided, self.adapted = guided, adapted
        if guided:
            self.input_layer = nn.Sequential(nn.Conv2d(3 * LATERAL_CHANNELS + REDUCE_CHANNELS, width, 1), nn.SiLU())
            self.blocks = nn.Sequential(*(ResidualBlock(width, 5) for _ in range(blocks)))
            self.output_layer = nn.Conv2d(width + LATERAL_CHANNELS, LATERAL_CHANNELS, 1)
        if adapted:
            self.copies = nn.ModuleList(map(copy.deepcopy, (network.neck.C3_p4, network.neck.reduce_conv1)))
            self.copies.requires_grad_(True)

    def forward(self, maps: Maps) -> Tensor:
        """``lateral_conv0 [B, 128, h, w]``, ``enlarged_dark3 [B, 64, 8h, 8w]`` and others → ``[B, 64, 4h, 4w]``."""
        network = self.frozen[0]
        dark4 = network.body.dark4(maps["enlarged_dark3"])
        lateral = self.upsample(maps["lateral_conv0"])
        if self.guided:
            x = self.input_layer(torch.cat([lateral, F.avg_pool2d(dark4, 2), maps["c3_n3"], maps["reduce_conv1"]], 1))
            lateral = F.silu(self.output_layer(torch.cat([self.blocks(x), lateral], 1)))
        c3_p4, reduce_conv1 = self.copies if self.adapted else (network.neck.C3_p4, network.neck.reduce_conv1)
        return reduce_conv1(c3_p4(torch.cat([network.neck.upsample(lateral), dark4], 1)))


class EnlargedPass(nn.Module):
    """The pass on the enlarged image itself, an upper bound for students."""

    inputs = ("enlarged_dark3",)

    def __init__(self, network: YOLOXNano):
        super().__init__()
        self.frozen = [network]

    def forward(self, maps: Maps) -> Tensor:
        """``enlarged_dark3 [B, 64, h, w]`` → ``[B, 64, h/2, w/2]``."""
        return self.frozen[0].compute_top_down(maps["enlarged_dark3"])[0]
