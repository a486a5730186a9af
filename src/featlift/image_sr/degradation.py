"""Image degradations for super-resolution training: modules to be composed by ``nn.Sequential``.

    nn.Sequential(BicubicDownscale(4))                                                       # FDSR, Sec. 3.1
    nn.Sequential(GaussianBlur(1.2), BicubicDownscale(4), GaussianNoise(0.02), JPEG(60))     # similar to a camera

All map ``[B, 3, H, W]`` to ``[B, 3, H, W]`` in 0…1. Only :class:`BicubicDownscale` changes the size.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn
from torchvision.io import ImageReadMode, decode_jpeg, encode_jpeg
from torchvision.transforms.v2.functional import gaussian_blur


def pad_to_multiple(images: Tensor, multiple: int) -> Tensor:
    """Pad ``images [B, C, H, W]`` at the bottom and right by reflection, so that both sides are multiples of ``multiple``.

    A side too short for reflection is padded by replication.
    """
    height, width = images.shape[-2:]
    bottom, right = -height % multiple, -width % multiple
    images = nnf.pad(images, (0, right, 0, 0), mode="reflect" if right < width else "replicate")
    return nnf.pad(images, (0, 0, 0, bottom), mode="reflect" if bottom < height else "replicate")


class BicubicDownscale(nn.Module):
    """Antialiased bicubic downscaling by ``factor``, as in Pillow and MATLAB, unlike OpenCV (FDSR, Sec. 3.1).

    Sides not divisible by ``factor`` are padded first (:func:`pad_to_multiple`), so the upscaled image covers the original and is
    cropped to its size; boxes need no change.
    """

    def __init__(self, factor: int = 4) -> None:
        super().__init__()
        if factor < 1:
            raise ValueError(f"factor is {factor}; it must be at least 1 (1 leaves images unchanged).")
        self.factor = factor

    def forward(self, images: Tensor) -> Tensor:
        """``[B, 3, H, W]`` → ``[B, 3, ⌈H/factor⌉, ⌈W/factor⌉]``."""
        if self.factor == 1:
            return images
        padded = pad_to_multiple(images, self.factor)
        size = (padded.shape[-2] // self.factor, padded.shape[-1] // self.factor)
        return nnf.interpolate(padded, size=size, mode="bicubic", align_corners=False, antialias=True).clamp(0, 1)


class GaussianBlur(nn.Module):
    """Gaussian blur of standard deviation ``sigma`` px, truncated at 3 sigma."""

    def __init__(self, sigma: float) -> None:
        super().__init__()
        if sigma <= 0:
            raise ValueError(f"sigma is {sigma}; it must be positive. Omit the module for no blur.")
        self.sigma = sigma

    def forward(self, images: Tensor) -> Tensor:
        """``[B, 3, H, W]`` → the same shape."""
        return gaussian_blur(images, [2 * max(1, round(3 * self.sigma)) + 1] * 2, [self.sigma] * 2)


class GaussianNoise(nn.Module):
    """White Gaussian noise of standard deviation ``sigma`` (on the scale 0…1). With a ``seed``, equal in all calls of the same shape."""

    def __init__(self, sigma: float, seed: int | None = None) -> None:
        super().__init__()
        self.sigma = sigma
        self.seed = seed

    def forward(self, images: Tensor) -> Tensor:
        """``[B, 3, H, W]`` → the same shape, clamped to 0…1."""
        generator = None if self.seed is None else torch.Generator(images.device).manual_seed(self.seed)
        noise = torch.randn(images.shape, generator=generator, device=images.device, dtype=images.dtype)
        return (images + self.sigma * noise).clamp(0, 1)


class JPEG(nn.Module):
    """JPEG compression at ``quality`` 1…100, without gradient."""

    def __init__(self, quality: int) -> None:
        super().__init__()
        if not 1 <= quality <= 100:
            raise ValueError(f"JPEG quality is {quality}; it must be between 1 (worst) and 100.")
        self.quality = quality

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """``[B, 3, H, W]`` → the same shape."""
        quantized = (images.clamp(0, 1) * 255).round().to(torch.uint8).cpu()
        return torch.stack([self._compress(image) for image in quantized]).to(images.device, images.dtype) / 255

    def _compress(self, image: Tensor) -> Tensor:
        """Encode and decode ``[3, H, W]`` uint8."""
        file: Tensor = encode_jpeg(image, self.quality)  # type: ignore[assignment]
        return decode_jpeg(file, mode=ImageReadMode.RGB)  # type: ignore[return-value]


@dataclass(frozen=True)
class DegradationConfig:
    """Degradations in addition to downscaling. Zero disables each; the papers use none.

    Attributes:
        blur_sigma: Standard deviation of the Gaussian blur before downscaling, in px of the high-resolution image.
        noise_sigma: Standard deviation of the Gaussian noise after downscaling, on the scale 0…1.
        jpeg_quality: Quality of the final JPEG compression, 1 to 100.
    """

    blur_sigma: float = 0.0
    noise_sigma: float = 0.0
    jpeg_quality: int = 0


def build_degradation(factor: int, config: DegradationConfig | None = None) -> nn.Sequential:
    """Build the degradation ``[B, 3, H, W]`` → ``[B, 3, ⌈H/factor⌉, ⌈W/factor⌉]``; bicubic downscaling only without ``config``."""
    config = config or DegradationConfig()
    before = [GaussianBlur(config.blur_sigma)] if config.blur_sigma else []
    after = ([GaussianNoise(config.noise_sigma)] if config.noise_sigma else []) + (
        [JPEG(config.jpeg_quality)] if config.jpeg_quality else []
    )
    return nn.Sequential(*before, BicubicDownscale(factor), *after)
