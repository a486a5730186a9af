"""Image descriptors: the frozen feature extractor F of FSR-GAN (Eqs. (1) and (2)), and the downscaling of its input images.

Tan, Yan and Bare, CVPR 2018, Sec. 3.1 use VGG-16's "36th layer": fc7 after its ReLU, 4096 values. Any encoder can be used.
"""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

from featlift.checkpoints import load_state_file
from featlift.features import IMAGENET_MEAN, IMAGENET_STD
from featlift.resolution import frozen_copy


class Embedder(nn.Module):
    """Encoder, pooling and L2 normalization; frozen, always in evaluation mode.

    Args:
        encoder: Network ``[B, 3, S, S]`` in 0…1 → map ``[B, C, h, w]``, tokens ``[B, N, C]`` or vectors ``[B, D]``, including its
            input normalization. :func:`featlift.backbones.encoder` creates it from any timm network.
        pool: Pooling of a map or tokens to ``[B, C]``, :class:`AveragePooling` or :class:`GeM`; none for vectors.
        input_size: S, the side to which images are resized (224 in the paper; the aspect ratio is not preserved).
        whitening: Unit vectors ``[B, D]`` → unit vectors ``[B, D']`` (`featlift.retrieval.whitening`).
        fast_decode: Whether image files are decoded at a reduced size of at least S (`featlift.data.image_io.read_reduced_image`).
    """

    def __init__(
        self,
        encoder: nn.Module,
        pool: nn.Module | None = None,
        input_size: int = 224,
        whitening: nn.Module | None = None,
        fast_decode: bool = False,
    ):
        super().__init__()
        self.encoder = frozen_copy(encoder)
        self.pool = pool or nn.Identity()
        self.input_size, self.fast_decode = input_size, fast_decode
        if whitening is not None:
            self.whitening = whitening.eval()

    def forward(self, image: Tensor) -> Tensor:
        """``[B, 3, S, S]`` in 0…1 → unit vectors ``[B, D]``, without gradient.

        Raises:
            ValueError: If the encoder returns maps or tokens and there is no pooling.
        """
        with torch.no_grad():
            pooled = self.pool(self.encoder(image))
        if pooled.ndim != 2:
            raise ValueError(
                f"Descriptors of shape {tuple(pooled.shape)}, not [B, D]: "
                "give Embedder a pooling (AveragePooling or GeM)."
            )
        unit = nnf.normalize(pooled, dim=1)
        return self.whitening(unit) if hasattr(self, "whitening") else unit


class AveragePooling(nn.Module):
    """Mean over all locations of a map or all tokens."""

    def forward(self, x: Tensor) -> Tensor:
        """``[B, C, h, w]`` or ``[B, N, C]`` → ``[B, C]``."""
        return _flatten_locations(x).mean(dim=2)


class GeM(nn.Module):
    """Generalized-mean pooling (Radenović et al., TPAMI 2019, Eq. (3)): (mean of xᵖ)^(1/p), for rectified maps.

    p = 1 is average pooling; large p approaches max pooling.

    Args:
        p: Exponent, 3 in the paper.
        eps: Lower bound to which values are clamped.
    """

    def __init__(self, p: float = 3.0, eps: float = 1e-6):
        super().__init__()
        self.p, self.eps = p, eps

    def extra_repr(self) -> str:
        """Options in ``repr``, which is part of the embedder's fingerprint."""
        return f"p={self.p}, eps={self.eps}"

    def forward(self, x: Tensor) -> Tensor:
        """``[B, C, h, w]`` or ``[B, N, C]`` → ``[B, C]``."""
        return _flatten_locations(x).clamp(min=self.eps).pow(self.p).mean(dim=2).pow(1 / self.p)


def _flatten_locations(x: Tensor) -> Tensor:
    return x.flatten(2) if x.ndim == 4 else x.transpose(1, 2)


class VGG16Fc7(nn.Module):
    """VGG-16 up to fc7 after the ReLU, the paper's "36th layer": 134,260,544 parameters, output ``[B, 4096]``, all ≥ 0.

    Args:
        weights: File with the state dict of torchvision's ``vgg16``, such as
            ``torchvision.models.vgg16(weights="IMAGENET1K_V1").state_dict()`` saved with ``torch.save``; none for random weights.
            Nothing is downloaded. (torchvision's "features" weights have no usable fc7.) The paper uses Caffe weights from a different
            training, so absolute results differ.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, weights: str | Path | None = None):
        super().__init__()
        from torchvision.models import vgg16

        vgg = vgg16(init_weights=False)
        if weights is not None:
            load_state_file(vgg, weights)
        self.features, self.avgpool, self.classifier = vgg.features, vgg.avgpool, vgg.classifier[:5]
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(3, 1, 1))
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(3, 1, 1))

    def forward(self, image: Tensor) -> Tensor:
        """``[B, 3, S, S]`` in 0…1 → ``[B, 4096]``."""
        return self.classifier(self.avgpool(self.features((image - self.mean) / self.std)).flatten(1))


def downscale_then_resize(image: Tensor, ratio: float, input_size: int) -> Tensor:
    """Downscale ``image [3, H, W]`` by ``ratio`` per side, then resize it to ``[3, input_size, input_size]``.

    Both steps are antialiased bicubic, as in Pillow (Sec. 5.2). Ratio 8 is the paper's "1/64". An image of 1024 px at ratio 4
    is still larger than the network input of 224; :func:`resize_then_downscale` avoids this.
    """
    return _resize_to_square(downscale_image(image, ratio), input_size)


def resize_then_downscale(image: Tensor, ratio: float, input_size: int) -> Tensor:
    """Resize to ``input_size`` first, then downscale by ``ratio`` to ``input_size / ratio`` pixels per side, and resize back.

    Unlike in :func:`downscale_then_resize`, the remaining resolution does not depend on the size of the image.
    """
    return _resize_to_square(downscale_image(_resize_to_square(image, input_size), ratio), input_size)


def decimate_then_resize(image: Tensor, ratio: float, input_size: int) -> Tensor:
    """As :func:`downscale_then_resize`, but downscale by nearest neighbor without a filter: an alternative reading of the paper's
    "uniform down-sampling".
    """
    size = _downscaled_size(image, ratio)
    return _resize_to_square(nnf.interpolate(image[None], size=size, mode="nearest-exact")[0], input_size)


Downscaler = Callable[[Tensor, float, int], Tensor]

DOWNSCALERS: dict[str, Downscaler] = {
    "image": downscale_then_resize,
    "input": resize_then_downscale,
    "nearest": decimate_then_resize,
}
"""Downscaling modes by name: ``downscale(image [3, H, W], ratio, input_size) → [3, input_size, input_size]``."""


def _downscaled_size(image: Tensor, ratio: float) -> tuple[int, int]:
    if ratio < 1:
        raise ValueError(f"ratio is {ratio}; it is the downscaling factor per side and must be at least 1.")
    return max(1, round(image.shape[-2] / ratio)), max(1, round(image.shape[-1] / ratio))


def downscale_image(image: Tensor, ratio: float) -> Tensor:
    """Downscale ``image [3, H, W]`` by ``ratio`` per side, antialiased bicubic (the image that a client transmits, Sec. 5.4)."""
    size = _downscaled_size(image, ratio)
    return image if size == tuple(image.shape[-2:]) else _resize(image, size)


def _resize_to_square(image: Tensor, size: int) -> Tensor:
    return image if tuple(image.shape[-2:]) == (size, size) else _resize(image, (size, size))


def _resize(image: Tensor, size: tuple[int, int]) -> Tensor:
    return nnf.interpolate(image[None], size=size, mode="bicubic", antialias=True)[0].clamp(0, 1)


def embed_images(embedder: Embedder, images: Iterable[Tensor], batch_size: int = 32) -> Tensor:
    """Compute unit vectors ``[N, D]`` of images ``[3, S, S]`` in batches on the embedder's device; the result is on the CPU."""
    device = next(iter([*embedder.parameters(), *embedder.buffers()]), torch.empty(0)).device
    descriptors, batch = [], []
    for image in images:
        batch.append(image)
        if len(batch) == batch_size:
            descriptors.append(_embed_batch(embedder, batch, device))
            batch = []
    if batch:
        descriptors.append(_embed_batch(embedder, batch, device))
    return torch.cat(descriptors) if descriptors else torch.empty(0, 0)


def _embed_batch(embedder: Embedder, images: Sequence[Tensor], device: torch.device) -> Tensor:
    return embedder(torch.stack(list(images)).to(device)).float().cpu()
