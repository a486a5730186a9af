"""From a picture to one unit vector: the frozen F of FSR-GAN (Eqs. 1 and 2), and the small pictures it is shown.

Tan, Yan and Bare, CVPR 2018, Sec. 3.1 take VGG-16's "36th layer": fc7 after its ReLU, 4096 numbers. Any encoder will
do.
"""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

from featlift.resolution import frozen


class Describer(nn.Module):
    """An encoder, a pooling and a length of 1: frozen, for ever in evaluation mode.

    Args:
        encoder: ``[B, 3, S, S]`` in 0…1 → a map ``[B, C, h, w]``, tokens ``[B, N, C]`` or vectors ``[B, D]``; its own
            normalisation inside. :func:`featlift.backbones.encoder` makes one of every timm network.
        pool: map or tokens → ``[B, C]``, :class:`Average` or :class:`GeM`; vectors need none.
        size: S, the side to which every picture is brought (224 in the paper; the aspect ratio is lost).
    """

    def __init__(self, encoder: nn.Module, pool: nn.Module | None = None, size: int = 224):
        super().__init__()
        self.encoder = frozen(encoder)
        self.pool = pool or nn.Identity()
        self.size = size

    def forward(self, image: Tensor) -> Tensor:
        """``[B, 3, S, S]`` in 0…1 → unit vectors ``[B, D]``, without gradient.

        Raises:
            ValueError: if the encoder gives maps or tokens and there is no pooling.
        """
        with torch.no_grad():
            pooled = self.pool(self.encoder(image))
        if pooled.ndim != 2:
            raise ValueError(
                f"Descriptors of shape {tuple(pooled.shape)}, not [B, D]: give Describer a pooling (Average or GeM)."
            )
        return nnf.normalize(pooled, dim=1)


class Average(nn.Module):
    """The mean over all places of a map or all tokens."""

    def forward(self, x: Tensor) -> Tensor:
        """``[B, C, h, w]`` or ``[B, N, C]`` → ``[B, C]``."""
        return _places_last(x).mean(dim=2)


class GeM(nn.Module):
    """Generalised mean (Radenović et al., TPAMI 2019, Eq. 3): (mean of xᵖ)^(1/p), for rectified maps; p = 1 is the
    mean, large p the maximum.

    Args:
        p: the power, 3 in the paper.
        least: values under it, negative ones too, count as it.
    """

    def __init__(self, p: float = 3.0, least: float = 1e-6):
        super().__init__()
        self.p, self.least = p, least

    def extra_repr(self) -> str:
        """Shown, and part of a descriptor's fingerprint."""
        return f"p={self.p}, least={self.least}"

    def forward(self, x: Tensor) -> Tensor:
        """``[B, C, h, w]`` or ``[B, N, C]`` → ``[B, C]``."""
        return _places_last(x).clamp(min=self.least).pow(self.p).mean(dim=2).pow(1 / self.p)


def _places_last(x: Tensor) -> Tensor:
    return x.flatten(2) if x.ndim == 4 else x.transpose(1, 2)


class Fc7(nn.Module):
    """VGG-16 up to fc7 after the ReLU, the paper's "36th layer": 134,260,544 parameters, ``[B, 4096]``, all ≥ 0.

    Args:
        weights: a file with the state dict of torchvision's ``vgg16``; none for random weights. Nothing is downloaded:
            ``torchvision.models.vgg16(weights="IMAGENET1K_V1").state_dict()`` saved to a file is one. (Its "features"
            weights have no usable fc7.) The paper's own Caffe weights were another training, so absolute numbers
            differ.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, weights: str | Path | None = None):
        super().__init__()
        from torchvision.models import vgg16

        vgg = vgg16(init_weights=False)
        if weights is not None:
            vgg.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
        self.features, self.average, self.classifier = vgg.features, vgg.avgpool, vgg.classifier[:5]
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1))
        self.register_buffer("std", torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1))

    def forward(self, image: Tensor) -> Tensor:
        """``[B, 3, S, S]`` in 0…1 → ``[B, 4096]``."""
        return self.classifier(self.average(self.features((image - self.mean) / self.std)).flatten(1))


def seen_at(image: Tensor, ratio: float, size: int) -> Tensor:
    """``image [3, H, W]`` as the network meets it: each side ``ratio`` times smaller, then brought to ``[3, size,
    size]``.

    Both steps are antialiased bicubic, as in Pillow (Sec. 5.2). Ratio 8 is the paper's "1/64". A picture of 1024 px is
    still larger than the network's 224 at ratio 4: where that matters, see :func:`seen_at_input`.
    """
    return _resized(reduced(image, ratio), size)


def seen_at_input(image: Tensor, ratio: float, size: int) -> Tensor:
    """As :func:`seen_at`, but the ratio is taken of the network's input: what is left has ``size / ratio`` pixels a
    side, whatever the original had.
    """
    return _resized(reduced(_resized(image, size), ratio), size)


def seen_decimated(image: Tensor, ratio: float, size: int) -> Tensor:
    """As :func:`seen_at`, but shrunk by leaving pixels out, without a filter: another reading of "uniform
    down-sampling".
    """
    sides = _sides(image, ratio)
    return _resized(nnf.interpolate(image[None], size=sides, mode="nearest-exact")[0], size)


View = Callable[[Tensor, float, int], Tensor]

VIEWS: dict[str, View] = {"picture": seen_at, "input": seen_at_input, "decimated": seen_decimated}
"""Ways to make a picture small: ``view(image [3, H, W], ratio, size) → [3, size, size]``."""


def _sides(image: Tensor, ratio: float) -> tuple[int, int]:
    if ratio < 1:
        raise ValueError(f"The ratio is {ratio}; it says how many times smaller a side becomes and is at least 1.")
    return max(1, round(image.shape[-2] / ratio)), max(1, round(image.shape[-1] / ratio))


def reduced(image: Tensor, ratio: float) -> Tensor:
    """``image [3, H, W]`` with each side ``ratio`` times smaller, by antialiased bicubic: what a phone would send (Sec.
    5.4).
    """
    sides = _sides(image, ratio)
    return image if sides == tuple(image.shape[-2:]) else _to(image, sides)


def _resized(image: Tensor, size: int) -> Tensor:
    return image if tuple(image.shape[-2:]) == (size, size) else _to(image, (size, size))


def _to(image: Tensor, sides: tuple[int, int]) -> Tensor:
    return nnf.interpolate(image[None], size=sides, mode="bicubic", antialias=True)[0].clamp(0, 1)


def describe(describer: Describer, images: Iterable[Tensor], batch: int = 32) -> Tensor:
    """Unit vectors ``[N, D]`` of pictures ``[3, S, S]``, ``batch`` at a time, on the describer's device; the result is
    on the CPU.
    """
    place = next(iter([*describer.parameters(), *describer.buffers()]), torch.empty(0)).device
    rows, held = [], []
    for image in images:
        held.append(image)
        if len(held) == batch:
            rows.append(_described(describer, held, place))
            held = []
    if held:
        rows.append(_described(describer, held, place))
    return torch.cat(rows) if rows else torch.empty(0, 0)


def _described(describer: Describer, images: Sequence[Tensor], place: torch.device) -> Tensor:
    return describer(torch.stack(list(images)).to(place)).float().cpu()
