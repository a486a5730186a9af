"""From a picture to one unit vector: the frozen F of FSR-GAN (Eqs. 1 and 2), and the small pictures it is shown.

Tan, Yan and Bare, CVPR 2018, Sec. 3.1 take VGG-16's "36th layer": fc7 after its ReLU, 4096 numbers. Any encoder will
do.
"""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

from featlift.resolution import frozen_copy


class Embedder(nn.Module):
    """An encoder, a pooling and a length of 1: frozen, for ever in evaluation mode.

    Args:
        encoder: ``[B, 3, S, S]`` in 0…1 → a map ``[B, C, h, w]``, tokens ``[B, N, C]`` or vectors ``[B, D]``; its own
            normalization inside. :func:`featlift.backbones.encoder` makes one of every timm network.
        pool: map or tokens → ``[B, C]``, :class:`AveragePooling` or :class:`GeM`; vectors need none.
        input_size: S, the side to which every picture is brought (224 in the paper; the aspect ratio is lost).
    """

    def __init__(self, encoder: nn.Module, pool: nn.Module | None = None, input_size: int = 224):
        super().__init__()
        self.encoder = frozen_copy(encoder)
        self.pool = pool or nn.Identity()
        self.input_size = input_size

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


class AveragePooling(nn.Module):
    """The mean over all places of a map or all tokens."""

    def forward(self, x: Tensor) -> Tensor:
        """``[B, C, h, w]`` or ``[B, N, C]`` → ``[B, C]``."""
        return _flatten_locations(x).mean(dim=2)


class GeM(nn.Module):
    """Generalized mean (Radenović et al., TPAMI 2019, Eq. 3): (mean of xᵖ)^(1/p), for rectified maps; p = 1 is the
    mean, large p the maximum.

    Args:
        p: the power, 3 in the paper.
        eps: values under it, negative ones too, count as it.
    """

    def __init__(self, p: float = 3.0, eps: float = 1e-6):
        super().__init__()
        self.p, self.eps = p, eps

    def extra_repr(self) -> str:
        """Shown, and part of a descriptor's fingerprint."""
        return f"p={self.p}, least={self.eps}"

    def forward(self, x: Tensor) -> Tensor:
        """``[B, C, h, w]`` or ``[B, N, C]`` → ``[B, C]``."""
        return _flatten_locations(x).clamp(min=self.eps).pow(self.p).mean(dim=2).pow(1 / self.p)


def _flatten_locations(x: Tensor) -> Tensor:
    return x.flatten(2) if x.ndim == 4 else x.transpose(1, 2)


class VGG16Fc7(nn.Module):
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
        self.features, self.avgpool, self.classifier = vgg.features, vgg.avgpool, vgg.classifier[:5]
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1))
        self.register_buffer("std", torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1))

    def forward(self, image: Tensor) -> Tensor:
        """``[B, 3, S, S]`` in 0…1 → ``[B, 4096]``."""
        return self.classifier(self.avgpool(self.features((image - self.mean) / self.std)).flatten(1))


def downscale_then_resize(image: Tensor, ratio: float, input_size: int) -> Tensor:
    """``image [3, H, W]`` as the network meets it: each side ``ratio`` times smaller, then brought to ``[3, size,
    size]``.

    Both steps are antialiased bicubic, as in Pillow (Sec. 5.2). Ratio 8 is the paper's "1/64". A picture of 1024 px is
    still larger than the network's 224 at ratio 4: where that matters, see :func:`resize_then_downscale`.
    """
    return _resize_to_square(downscale_image(image, ratio), input_size)


def resize_then_downscale(image: Tensor, ratio: float, input_size: int) -> Tensor:
    """As :func:`downscale_then_resize`, but the ratio is taken of the network's input: what is left has ``size / ratio`` pixels a
    side, whatever the original had.
    """
    return _resize_to_square(downscale_image(_resize_to_square(image, input_size), ratio), input_size)


def decimate_then_resize(image: Tensor, ratio: float, input_size: int) -> Tensor:
    """As :func:`downscale_then_resize`, but shrunk by leaving pixels out, without a filter: another reading of "uniform
    down-sampling".
    """
    sides = _downscaled_size(image, ratio)
    return _resize_to_square(nnf.interpolate(image[None], size=sides, mode="nearest-exact")[0], input_size)


Downscaler = Callable[[Tensor, float, int], Tensor]

DOWNSCALERS: dict[str, Downscaler] = {
    "picture": downscale_then_resize,
    "input": resize_then_downscale,
    "decimated": decimate_then_resize,
}
"""Ways to make a picture small: ``view(image [3, H, W], ratio, size) → [3, size, size]``."""


def _downscaled_size(image: Tensor, ratio: float) -> tuple[int, int]:
    if ratio < 1:
        raise ValueError(f"The ratio is {ratio}; it says how many times smaller a side becomes and is at least 1.")
    return max(1, round(image.shape[-2] / ratio)), max(1, round(image.shape[-1] / ratio))


def downscale_image(image: Tensor, ratio: float) -> Tensor:
    """``image [3, H, W]`` with each side ``ratio`` times smaller, by antialiased bicubic: what a phone would send (Sec.
    5.4).
    """
    sides = _downscaled_size(image, ratio)
    return image if sides == tuple(image.shape[-2:]) else _resize(image, sides)


def _resize_to_square(image: Tensor, size: int) -> Tensor:
    return image if tuple(image.shape[-2:]) == (size, size) else _resize(image, (size, size))


def _resize(image: Tensor, size: tuple[int, int]) -> Tensor:
    return nnf.interpolate(image[None], size=size, mode="bicubic", antialias=True)[0].clamp(0, 1)


def embed_images(embedder: Embedder, images: Iterable[Tensor], batch_size: int = 32) -> Tensor:
    """Unit vectors ``[N, D]`` of pictures ``[3, S, S]``, ``batch_size`` at a time, on the describer's device; the result is
    on the CPU.
    """
    place = next(iter([*embedder.parameters(), *embedder.buffers()]), torch.empty(0)).device
    rows, held = [], []
    for image in images:
        held.append(image)
        if len(held) == batch_size:
            rows.append(_embed_batch(embedder, held, place))
            held = []
    if held:
        rows.append(_embed_batch(embedder, held, place))
    return torch.cat(rows) if rows else torch.empty(0, 0)


def _embed_batch(embedder: Embedder, images: Sequence[Tensor], device: torch.device) -> Tensor:
    return embedder(torch.stack(list(images)).to(device)).float().cpu()
