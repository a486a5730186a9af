"""Extended feature pyramid (EFPN: Deng et al., IEEE TMM 2021): below p2 a level for small objects, twice as fine.

``p3x = FTT(inner3, inner2)`` and ``p2x = smooth(lateral(c2x) + doubled(p3x))`` (Sec. III-A, Eq. 1), where c2x is the backbone's stage 2
without pooling and inner3, inner2 are the top-down maps before their 3x3 convolutions (as in the authors' anonymous release; the paper
writes P3 and P2). Feature texture transfer (FTT, Sec. III-B, Eq. 3) raises the resolution of inner3 and takes the textures from inner2.

What makes p3x is a *transfer*: ``(coarse [B, C, H, W], fine [B, C, 2H, 2W]) → [B, C, 2H, 2W]``; :data:`TEXTURE_TRANSFERS` has the paper's, and
:func:`texture_transfer` makes one of any interpolator, too.
"""

import difflib
import inspect
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

from featlift.checkpoints.init_args import store_init_args
from featlift.features import Features, crop_or_pad
from featlift.interpolators import INTERPOLATORS, interpolator
from featlift.interpolators.conv import PixelShuffleConv
from featlift.interpolators.fixed import NearestInterpolator

FTT_NEGATIVE_SLOPE = 0.1
FTT_TAIL_SCALE = 0.1
"""What is left of FTT's last convolution where it begins close to its shortcut; not 0, so that all of it learns from the first step."""


class FTTBlock(nn.Module):
    """``relu(x + conv(relu(conv(x))))`` with 3x3 convolutions and no normalization."""

    def __init__(self, channels: int):
        super().__init__()
        self.first, self.second = _xavier_conv(channels, channels), _xavier_conv(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """``[B, C, H, W]`` → ``[B, C, H, W]``."""
        return nnf.relu(x + self.second(nnf.relu(self.first(x))))


class FTTExtractor(nn.Module):
    """A convolution to ``hidden_channels`` channels, LeakyReLU, and residual blocks: what content and texture are drawn out by."""

    def __init__(self, channels: int, hidden_channels: int, num_blocks: int):
        super().__init__()
        self.head = _xavier_conv(channels, hidden_channels)
        self.body = nn.Sequential(*[FTTBlock(hidden_channels) for _ in range(num_blocks)])

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """``[B, C, H, W]`` → before and after the blocks, each ``[B, width, H, W]``."""
        before = nnf.leaky_relu(self.head(x), FTT_NEGATIVE_SLOPE)
        return before, self.body(before)


@store_init_args()
class FTT(nn.Module):
    """Feature texture transfer as the authors' release has it; 31,857,408 parameters at 256 channels and width 512.

    ``content = doubled(E_c(coarse))``, ``texture = E_t(content ‖ fine)``, and the sum of both goes through two convolutions onto
    nearest-doubled ``coarse``. E_c has a second shortcut around its blocks.

    Args:
        channels: C.
        hidden_channels: channels inside.
        content_blocks: residual blocks of E_c; the paper says 2, the release has 1.
        texture_blocks: residual blocks of E_t.
        upsampler: the sub-pixel step, ``[B, width, H, W]`` → ``[B, width, 2H, 2W]``: any interpolator of ``hidden_channels`` channels. None is the
            paper's convolution and pixel shuffle.
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
            _xavier_conv(hidden_channels, hidden_channels),
            nn.LeakyReLU(FTT_NEGATIVE_SLOPE),
            _xavier_conv(hidden_channels, channels),
        )
        self.upsampler = upsampler or _sub_pixel_conv(hidden_channels)

    def forward(self, coarse: Tensor, fine: Tensor) -> Tensor:
        """``[B, C, H, W]`` and ``[B, C, 2H, 2W]`` → ``[B, C, 2H, 2W]``."""
        before, after = self.content(coarse)
        content = crop_or_pad(nnf.leaky_relu(self.upsampler(before + after), FTT_NEGATIVE_SLOPE), _spatial_size(fine))
        _, texture = self.texture(torch.cat((content, fine), dim=1))
        return self.tail(texture + content) + crop_or_pad(_upsample_nearest(coarse), _spatial_size(fine))


@store_init_args()
class PaperFTT(nn.Module):
    """Feature texture transfer as Eq. 3 prints it: ``E_t(fine ‖ E_c(coarse)↑) + E_c(coarse)↑``, with as many channels inside as outside.

    8,260,864 parameters at 256 channels. No shortcut from the input, no convolution after the sum, two blocks in each extractor; E_c, whose
    input has the right channels, has no convolution before its blocks.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.content = nn.Sequential(FTTBlock(channels), FTTBlock(channels))
        self.upsampler = _sub_pixel_conv(channels)
        self.texture = FTTExtractor(2 * channels, channels, 2)

    def forward(self, coarse: Tensor, fine: Tensor) -> Tensor:
        """``[B, C, H, W]`` and ``[B, C, 2H, 2W]`` → ``[B, C, 2H, 2W]``."""
        content = crop_or_pad(
            nnf.leaky_relu(self.upsampler(self.content(coarse)), FTT_NEGATIVE_SLOPE), _spatial_size(fine)
        )
        return self.texture(torch.cat((fine, content), dim=1))[1] + content


@store_init_args()
class ESPCN(nn.Module):
    """The paper's ablation: ESPCN's three layers (Shi et al., CVPR 2016) on ``coarse`` alone; 724,064 parameters at 256 channels."""

    def __init__(self, channels: int):
        super().__init__()
        self.layers = nn.Sequential(
            _xavier_conv(channels, 64, 5), nn.Tanh(), _xavier_conv(64, 32), nn.Tanh(), _xavier_conv(32, 4 * channels)
        )

    def forward(self, coarse: Tensor, fine: Tensor) -> Tensor:
        """``[B, C, H, W]`` and ``[B, C, 2H, 2W]`` → ``[B, C, 2H, 2W]``; of ``fine`` only the size is used."""
        return crop_or_pad(nnf.pixel_shuffle(self.layers(coarse), 2), _spatial_size(fine))


@store_init_args()
class InterpolatorTransfer(nn.Module):
    """An interpolator in FTT's place: ``coarse`` doubled, no textures. With nearest it is the paper's "w/o FTT"."""

    def __init__(self, interpolator: nn.Module):
        super().__init__()
        self.interpolator = interpolator

    def forward(self, coarse: Tensor, fine: Tensor) -> Tensor:
        """``[B, C, H, W]`` and ``[B, C, 2H, 2W]`` → ``[B, C, 2H, 2W]``; of ``fine`` only the size is used."""
        return crop_or_pad(self.interpolator(coarse), _spatial_size(fine))


TEXTURE_TRANSFERS: dict[str, Callable[..., nn.Module]] = {
    "ftt": FTT,
    "ftt-256": partial(FTT, hidden_channels=256),
    "authors": partial(FTT, hidden_channels=512),
    "authors-2-blocks": partial(FTT, hidden_channels=512, content_blocks=2),
    "paper-literal": PaperFTT,
    "espcn": ESPCN,
}
"""Channels → what makes p3x. "ftt" is the narrow default: at the authors' width EFPN costs more than a picture twice as large."""


def texture_transfer(name: str, channels: int, **options: object) -> nn.Module:
    """A new transfer: one of :data:`TEXTURE_TRANSFERS`, or any interpolator by its name ("nearest" is the paper's "w/o FTT").

    ``options`` are those of the class behind the name: ``transfer("ftt", 256, width=64)``.

    Raises:
        ValueError: for a name of neither, or an option that it does not have.
    """
    if name in TEXTURE_TRANSFERS:
        known = [option for option in inspect.signature(TEXTURE_TRANSFERS[name]).parameters if option != "channels"]
        unknown = sorted(set(options) - set(known))
        if unknown:
            raise ValueError(f"'{name}' has no option {', '.join(unknown)}; it has: {', '.join(known) or 'none'}.")
        return TEXTURE_TRANSFERS[name](channels, **options)
    if name in INTERPOLATORS:
        return InterpolatorTransfer(interpolator(name, channels, **options))
    near = difflib.get_close_matches(name, [*TEXTURE_TRANSFERS, *INTERPOLATORS], n=1)
    hint = f" Did you mean '{near[0]}'?" if near else ""
    raise ValueError(
        f"Unknown transfer '{name}'.{hint} There are: {', '.join(TEXTURE_TRANSFERS)}, and every interpolator "
        f"({', '.join(INTERPOLATORS)})."
    )


@store_init_args()
class ExtendedLevel(nn.Module):
    """The extended level: inner3, inner2 and c2x in, p3x and p2x out. With the authors' FTT 32,512,768 parameters at 256 channels.

    Args:
        c2_channels: of c2x, which are those of c2.
        channels: C of the pyramid.
        transfer: what makes p3x, see :func:`texture_transfer`.
        upsampler: what doubles p3x; any interpolator. None is the paper's nearest.
    """

    def __init__(self, c2_channels: int, channels: int, transfer: nn.Module, upsampler: nn.Module | None = None):
        super().__init__()
        self.transfer = transfer
        self.upsampler = upsampler or NearestInterpolator(channels)
        self.lateral = _xavier_conv(c2_channels, channels, 1, bias=False)
        self.smooth = _xavier_conv(channels, channels, 3, bias=False)

    def forward(self, inner3: Tensor, inner2: Tensor, c2x: Tensor) -> Features:
        """``[B, C, H/8, W/8]``, ``[B, C, H/4, W/4]``, ``[B, C2, H/2, W/2]`` → ``{"p3x": [B, C, H/4, W/4], "p2x": [B, C, H/2, W/2]}``."""
        p3x = self.transfer(inner3, inner2)
        p2x = self.smooth(self.lateral(c2x) + crop_or_pad(self.upsampler(p3x), _spatial_size(c2x)))
        return {"p3x": p3x, "p2x": p2x}


def init_extended_level(level: ExtendedLevel, lateral: nn.Module, smooth: nn.Module) -> None:
    """Let ``level`` begin as one more step of the pyramid whose finest lateral and smoothing convolution are given.

    It is taught to give, on a picture, what that pyramid's finest step gives on the picture at twice the size. So the weights of that
    step are right for it already, and what is left to learn is how c2x and p3x differ from c2 and inner3 of the larger picture. FTT begins
    close to its outer shortcut, nearest-doubled inner3. (The release begins with random weights.) Biases, which the extension's two
    convolutions do not have, and steps with a normalization, are left out.
    """
    _copy_conv_weights(level.lateral, lateral)
    _copy_conv_weights(level.smooth, smooth)
    if isinstance(level.transfer, FTT):
        for parameter in level.transfer.tail[-1].parameters():
            parameter.data.mul_(FTT_TAIL_SCALE)


@torch.no_grad()
def _copy_conv_weights(own: nn.Conv2d, block: nn.Module) -> None:
    """Give ``own`` the weights of the convolution in ``block``, if that holds nothing else with parameters or statistics."""
    layers = [m for m in block.modules() if list(m.parameters(recurse=False)) or list(m.buffers(recurse=False))]
    if len(layers) == 1 and isinstance(layers[0], nn.Conv2d):
        own.weight.copy_(layers[0].weight)


def _xavier_conv(channels: int, out_channels: int, kernel: int = 3, bias: bool = True) -> nn.Conv2d:
    """Size-keeping, started as Caffe2's "XavierFill" (torchvision's pyramid, too), with zero bias."""
    made = nn.Conv2d(channels, out_channels, kernel, padding=kernel // 2, bias=bias)
    nn.init.kaiming_uniform_(made.weight, a=1)
    if made.bias is not None:
        nn.init.zeros_(made.bias)
    return made


def _sub_pixel_conv(channels: int) -> PixelShuffleConv:
    """The paper's Eq. 4: PyTorch's shuffle differs by a fixed order of the convolution's channels."""
    made = PixelShuffleConv(channels)
    nn.init.kaiming_uniform_(made.last.weight, a=1)
    nn.init.zeros_(made.last.bias)  # type: ignore[arg-type]
    return made


def _upsample_nearest(x: Tensor) -> Tensor:
    return nnf.interpolate(x, scale_factor=2.0, mode="nearest")


def _spatial_size(x: Tensor) -> tuple[int, int]:
    return x.shape[-2], x.shape[-1]
