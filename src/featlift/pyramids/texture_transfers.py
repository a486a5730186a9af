"""Texture transfers of EFPN (Deng et al., IEEE TMM 2021): compute p3x from a coarse and a fine map of the pyramid.

A *texture transfer* maps ``(coarse [B, C, H, W], fine [B, C, 2H, 2W]) → [B, C, 2H, 2W]``. :data:`TEXTURE_TRANSFERS` lists the paper's
variants; :func:`texture_transfer` also accepts any interpolator. Feature texture transfer (FTT, Sec. III-B, Eq. (3)) upsamples inner3 and
adds the textures of inner2.
"""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

from featlift.checkpoints.init_args import store_init_args
from featlift.features import crop_or_pad, spatial_size
from featlift.interpolators import INTERPOLATORS, interpolator
from featlift.interpolators.conv import PixelShuffleConv
from featlift.registry import check_options, look_up

FTT_NEGATIVE_SLOPE = 0.1


class FTTBlock(nn.Module):
    """Residual block ``relu(x + conv(relu(conv(x))))`` of 3x3 convolutions without normalization."""

    def __init__(self, channels: int):
        super().__init__()
        self.first, self.second = xavier_conv(channels, channels), xavier_conv(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """``[B, C, H, W]`` → ``[B, C, H, W]``."""
        return nnf.relu(x + self.second(nnf.relu(self.first(x))))


class FTTExtractor(nn.Module):
    """Content or texture extractor: a convolution to ``hidden_channels`` channels, LeakyReLU, and residual blocks."""

    def __init__(self, channels: int, hidden_channels: int, num_blocks: int):
        super().__init__()
        self.head = xavier_conv(channels, hidden_channels)
        self.body = nn.Sequential(*[FTTBlock(hidden_channels) for _ in range(num_blocks)])

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """``[B, C, H, W]`` → the maps before and after the blocks, each ``[B, hidden_channels, H, W]``."""
        head = nnf.leaky_relu(self.head(x), FTT_NEGATIVE_SLOPE)
        return head, self.body(head)


@store_init_args()
class FTT(nn.Module):
    """Feature texture transfer as in the authors' release; 31,857,408 parameters at 256 channels and 512 hidden channels.

    ``content = upsample(E_c(coarse))`` and ``texture = E_t(content ‖ fine)``; two convolutions of their sum are added to the
    nearest-upsampled ``coarse``. E_c has a second shortcut around its blocks.

    Args:
        channels: Number of channels C of the input and output maps.
        hidden_channels: Number of inner channels.
        content_blocks: Number of residual blocks of E_c: 2 in the paper, 1 in the release.
        texture_blocks: Number of residual blocks of E_t.
        upsampler: Interpolator of ``hidden_channels`` channels, ``[B, hidden_channels, H, W]`` → ``[B, hidden_channels, 2H, 2W]``; None
            selects the paper's convolution and pixel shuffle.
    """

    def __init__(
        self,
        channels: int,
        hidden_channels: int = 128,
        content_blocks: int = 1,
        texture_blocks: int = 2,
        upsampler: nn.Module | None = None,
    ):
        super().__init__()
        self.content = FTTExtractor(channels, hidden_channels, content_blocks)
        self.texture = FTTExtractor(hidden_channels + channels, hidden_channels, texture_blocks)
        self.tail = nn.Sequential(
            xavier_conv(hidden_channels, hidden_channels),
            nn.LeakyReLU(FTT_NEGATIVE_SLOPE),
            xavier_conv(hidden_channels, channels),
        )
        self.upsampler = upsampler or _sub_pixel_conv(hidden_channels)

    def forward(self, coarse: Tensor, fine: Tensor) -> Tensor:
        """``[B, C, H, W]`` and ``[B, C, 2H, 2W]`` → ``[B, C, 2H, 2W]``."""
        head, body = self.content(coarse)
        content = crop_or_pad(nnf.leaky_relu(self.upsampler(head + body), FTT_NEGATIVE_SLOPE), spatial_size(fine))
        _, texture = self.texture(torch.cat((content, fine), dim=1))
        return self.tail(texture + content) + crop_or_pad(_upsample_nearest(coarse), spatial_size(fine))


@store_init_args()
class PaperFTT(nn.Module):
    """Feature texture transfer as printed in Eq. (3): ``E_t(fine ‖ E_c(coarse)↑) + E_c(coarse)↑``, with C inner channels.

    8,260,864 parameters at 256 channels. No shortcut from the input, no convolution after the sum, two blocks per extractor; E_c has no
    convolution before its blocks, because its input has C channels already.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.content = nn.Sequential(FTTBlock(channels), FTTBlock(channels))
        self.upsampler = _sub_pixel_conv(channels)
        self.texture = FTTExtractor(2 * channels, channels, 2)

    def forward(self, coarse: Tensor, fine: Tensor) -> Tensor:
        """``[B, C, H, W]`` and ``[B, C, 2H, 2W]`` → ``[B, C, 2H, 2W]``."""
        content = crop_or_pad(
            nnf.leaky_relu(self.upsampler(self.content(coarse)), FTT_NEGATIVE_SLOPE), spatial_size(fine)
        )
        return self.texture(torch.cat((fine, content), dim=1))[1] + content


@store_init_args()
class ESPCN(nn.Module):
    """The paper's ablation: ESPCN's three layers (Shi et al., CVPR 2016) applied to ``coarse``; 724,064 parameters at 256 channels."""

    def __init__(self, channels: int):
        super().__init__()
        self.layers = nn.Sequential(
            xavier_conv(channels, 64, 5), nn.Tanh(), xavier_conv(64, 32), nn.Tanh(), xavier_conv(32, 4 * channels)
        )

    def forward(self, coarse: Tensor, fine: Tensor) -> Tensor:
        """``[B, C, H, W]`` and ``[B, C, 2H, 2W]`` → ``[B, C, 2H, 2W]``; only the size of ``fine`` is used."""
        return crop_or_pad(nnf.pixel_shuffle(self.layers(coarse), 2), spatial_size(fine))


@store_init_args()
class InterpolatorTransfer(nn.Module):
    """Interpolator as texture transfer, with ``fine`` as guide. Without a guide, as with nearest, it is the paper's "w/o FTT"."""

    def __init__(self, interpolator: nn.Module):
        super().__init__()
        self.interpolator = interpolator

    def forward(self, coarse: Tensor, fine: Tensor) -> Tensor:
        """``[B, C, H, W]`` and ``[B, C, 2H, 2W]`` → ``[B, C, 2H, 2W]``; most interpolators use only the size of ``fine``."""
        return crop_or_pad(self.interpolator(coarse, fine), spatial_size(fine))


TEXTURE_TRANSFERS: dict[str, Callable[..., nn.Module]] = {
    "ftt": FTT,
    "ftt-256": partial(FTT, hidden_channels=256),
    "ftt-512": partial(FTT, hidden_channels=512),
    "ftt-512-2-blocks": partial(FTT, hidden_channels=512, content_blocks=2),
    "ftt-paper": PaperFTT,
    "espcn": ESPCN,
}
"""Factories of texture transfers by name. "ftt" is the narrow default: with the authors' 512 channels EFPN costs more than an image of
twice the size."""


def texture_transfer(name: str, channels: int, **options: object) -> nn.Module:
    """Create a texture transfer: one of :data:`TEXTURE_TRANSFERS`, or any interpolator ("nearest" is the paper's "w/o FTT").

    Args:
        name: Name of the texture transfer or interpolator.
        channels: Number of channels C.
        **options: Constructor arguments of the class: ``texture_transfer("ftt", 256, hidden_channels=64)``.

    Raises:
        ValueError: If the name is unknown or the class has no such option.
    """
    if name in TEXTURE_TRANSFERS:
        check_options(name, TEXTURE_TRANSFERS[name], options, skip=("channels",))
        return TEXTURE_TRANSFERS[name](channels, **options)
    look_up(TEXTURE_TRANSFERS | INTERPOLATORS, name, "texture transfer")
    return InterpolatorTransfer(interpolator(name, channels, **options))


def xavier_conv(channels: int, out_channels: int, kernel: int = 3, bias: bool = True) -> nn.Conv2d:
    """Size-preserving convolution, initialized as Caffe2's "XavierFill" (as in torchvision's FPN), with zero bias."""
    conv = nn.Conv2d(channels, out_channels, kernel, padding=kernel // 2, bias=bias)
    nn.init.kaiming_uniform_(conv.weight, a=1)
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
    return conv


def _sub_pixel_conv(channels: int) -> PixelShuffleConv:
    """Sub-pixel convolution, Eq. (4); PyTorch's pixel shuffle differs by a fixed permutation of the channels."""
    conv = PixelShuffleConv(channels)
    nn.init.kaiming_uniform_(conv.last.weight, a=1)
    nn.init.zeros_(conv.last.bias)  # type: ignore[arg-type]
    return conv


def _upsample_nearest(x: Tensor) -> Tensor:
    return nnf.interpolate(x, scale_factor=2.0, mode="nearest")
