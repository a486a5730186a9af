"""Detection on super-resolved images: the two-step pipeline of FDSR (Sec. 3) with any super-resolution network and detector."""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

from featlift.features import Target
from featlift.image_sr.degradation import BicubicDownscale
from featlift.resolution import quantize_8bit


class DegradeAndUpscale(nn.Module):
    """Downscale images by ``factor`` and upscale them with ``network``.

    Both results are quantized to 8 bits, as image files are. If the scale of ``network`` differs from ``factor``, its output is resized
    bicubically.

    Args:
        network: Super-resolution network with ``scale``; ``[B, 3, H, W]`` in 0…1 → ``[B, 3, scale·H, scale·W]``.
        factor: Downscaling factor; 1 keeps the image size.
        degradation: Module that downscales to ``⌈side / factor⌉``; default :class:`BicubicDownscale`.
    """

    def __init__(self, network: nn.Module, factor: int, degradation: nn.Module | None = None) -> None:
        super().__init__()
        self.network, self.factor = network, factor
        self.degradation = degradation or BicubicDownscale(factor)

    def degrade(self, images: Tensor) -> Tensor:
        """Return the degraded images: ``[B, 3, H, W]`` → ``[B, 3, ⌈H/factor⌉, ⌈W/factor⌉]``."""
        return quantize_8bit(self.degradation(images))

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """``[B, 3, H, W]`` in 0…1 → the same shape, so boxes remain valid."""
        degraded = self.degrade(images)
        size = (degraded.shape[-2] * self.factor, degraded.shape[-1] * self.factor)
        return quantize_8bit(resize_bicubic(self.network(degraded), size)[..., : images.shape[-2], : images.shape[-1]])


def resize_bicubic(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize ``images [B, 3, H, W]`` to ``size`` by antialiased bicubic interpolation; unchanged if they have this size."""
    if tuple(images.shape[-2:]) == size:
        return images
    return nnf.interpolate(images.float(), size=size, mode="bicubic", align_corners=False, antialias=True)


class SRDetector(nn.Module):
    """Detector on preprocessed images, with torchvision's interface for training and evaluation.

    Args:
        detector: Detector with torchvision's interface.
        preprocess: Images ``[B, 3, H, W]`` → the same shape, such as :class:`DegradeAndUpscale`.
    """

    def __init__(self, detector: nn.Module, preprocess: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.detector, self.preprocess = detector, preprocess

    def forward(
        self, images: Sequence[Tensor], targets: Sequence[Target] | None = None
    ) -> list[Target] | dict[str, Tensor]:
        """Images ``[3, H, W]`` in 0…1 → losses or detections on the preprocessed images.

        Raises:
            ValueError: If ``preprocess`` changes the size of an image.
        """
        preprocessed = [self.preprocess(image[None])[0] for image in images]
        for before, after in zip(images, preprocessed, strict=True):
            if before.shape != after.shape:
                raise ValueError(
                    f"preprocess changes the shape {tuple(before.shape)} to {tuple(after.shape)}, so boxes do not match. "
                    "Upscale low-resolution images before they are given to the detector."
                )
        return self.detector(preprocessed, targets)
