"""How a picture loses its resolution: small modules, put one after another with ``nn.Sequential``.

    nn.Sequential(Shrink(4))                                      # FDSR, Sec. 3.1
    nn.Sequential(Blur(1.2), Shrink(4), Noise(0.02), Jpeg(60))    # what a camera does to it

Each takes and gives ``[B, 3, H, W]`` in 0…1. Only :class:`BicubicDownscale` changes the size.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn
from torchvision.io import ImageReadMode, decode_jpeg, encode_jpeg
from torchvision.transforms.v2.functional import gaussian_blur


def pad_to_multiple(images: Tensor, multiple: int) -> Tensor:
    """``images [B, C, H, W]`` with mirrored rows and columns at the bottom and right, so that both sides are multiples of ``multiple``.

    A side too short to be mirrored has its last row or column repeated.
    """
    height, width = images.shape[-2:]
    down, right = -height % multiple, -width % multiple
    images = nnf.pad(images, (0, right, 0, 0), mode="reflect" if right < width else "replicate")
    return nnf.pad(images, (0, 0, 0, down), mode="reflect" if down < height else "replicate")


def quantize_8bit(images: Tensor) -> Tensor:
    """``images`` as an 8-bit file would keep them: clamped to 0…1 and rounded to 256 steps. Its gradient is zero."""
    return (images.clamp(0, 1) * 255).round() / 255


class BicubicDownscale(nn.Module):
    """Antialiased bicubic at ``1 / factor``: Pillow's and MATLAB's, not OpenCV's (FDSR, Sec. 3.1).

    Sides that ``factor`` does not divide are padded first (:func:`pad_to_multiple`), so the small picture enlarged again covers the whole large
    one and is cut to its size; boxes need no change.
    """

    def __init__(self, factor: int = 4) -> None:
        super().__init__()
        if factor < 1:
            raise ValueError(f"factor is {factor}; 1 keeps the picture, 4 makes each side a quarter.")
        self.factor = factor

    def forward(self, images: Tensor) -> Tensor:
        """``[B, 3, H, W]`` → ``[B, 3, ⌈H/factor⌉, ⌈W/factor⌉]``."""
        if self.factor == 1:
            return images
        whole = pad_to_multiple(images, self.factor)
        size = (whole.shape[-2] // self.factor, whole.shape[-1] // self.factor)
        return nnf.interpolate(whole, size=size, mode="bicubic", align_corners=False, antialias=True).clamp(0, 1)


class GaussianBlur(nn.Module):
    """A Gaussian of standard deviation ``sigma`` pixels, cut at three of them."""

    def __init__(self, sigma: float) -> None:
        super().__init__()
        if sigma <= 0:
            raise ValueError(f"sigma is {sigma}; a blur needs a width above 0 px. Leave it out for none.")
        self.sigma = sigma

    def forward(self, images: Tensor) -> Tensor:
        """``[B, 3, H, W]`` → the same shape."""
        return gaussian_blur(images, [2 * max(1, round(3 * self.sigma)) + 1] * 2, [self.sigma] * 2)


class GaussianNoise(nn.Module):
    """White Gaussian noise of standard deviation ``sigma`` (of 0…1). With a ``seed``, the same for every call on one size."""

    def __init__(self, sigma: float, seed: int | None = None) -> None:
        super().__init__()
        self.sigma = sigma
        self.seed = seed

    def forward(self, images: Tensor) -> Tensor:
        """``[B, 3, H, W]`` → the same shape, clamped to 0…1."""
        source = None if self.seed is None else torch.Generator(images.device).manual_seed(self.seed)
        noise = torch.randn(images.shape, generator=source, device=images.device, dtype=images.dtype)
        return (images + self.sigma * noise).clamp(0, 1)


class JPEG(nn.Module):
    """Saved as JPEG of ``quality`` 1…100 and read again. Carries no gradient."""

    def __init__(self, quality: int) -> None:
        super().__init__()
        if not 1 <= quality <= 100:
            raise ValueError(f"JPEG quality is {quality}; it goes from 1 (worst) to 100.")
        self.quality = quality

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """``[B, 3, H, W]`` → the same shape."""
        pictures = (images.clamp(0, 1) * 255).round().to(torch.uint8).cpu()
        return torch.stack([self._compress(picture) for picture in pictures]).to(images.device, images.dtype) / 255

    def _compress(self, image: Tensor) -> Tensor:
        """``[3, H, W]`` uint8 → the same, as the file shows it."""
        file: Tensor = encode_jpeg(image, self.quality)  # type: ignore[assignment]
        return decode_jpeg(file, mode=ImageReadMode.RGB)  # type: ignore[return-value]


@dataclass(frozen=True)
class DegradationConfig:
    """What else than size a picture loses. Zero leaves each out; the papers have none.

    Attributes:
        blur_sigma: before it is shrunk, standard deviation in px of the large picture.
        noise_sigma: after, standard deviation in parts of 0…1.
        jpeg_quality: last, quality from 1 to 100.
    """

    blur_sigma: float = 0.0
    noise_sigma: float = 0.0
    jpeg_quality: int = 0


def build_degradation(factor: int, config: DegradationConfig | None = None) -> nn.Sequential:
    """How the small picture is made: ``[B, 3, H, W]`` → ``[B, 3, ⌈H/factor⌉, ⌈W/factor⌉]``; bicubic alone without ``config``."""
    config = config or DegradationConfig()
    before = [GaussianBlur(config.blur_sigma)] if config.blur_sigma else []
    after = ([GaussianNoise(config.noise_sigma)] if config.noise_sigma else []) + (
        [JPEG(config.jpeg_quality)] if config.jpeg_quality else []
    )
    return nn.Sequential(*before, BicubicDownscale(factor), *after)
