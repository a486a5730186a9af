"""A detector that looks through a super-resolution network: FDSR's two steps (Sec. 3), with any network and any detector."""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

from featlift.image_sr.degradation import BicubicDownscale, quantize_8bit

Target = dict[str, Tensor]


class DegradeAndUpscale(nn.Module):
    """A picture as it looks after it was shrunk by ``factor`` and enlarged again by ``network``.

    Both pictures are rounded to 8 bits, as files would be. If ``network`` enlarges by another factor than the picture was shrunk by,
    its result is brought to size bicubically.

    Args:
        network: has ``scale``; ``[B, 3, H, W]`` in 0…1 → ``[B, 3, scale·H, scale·W]``.
        factor: how much smaller a side becomes; 1 leaves the picture, and shows what the network does to a sharp one.
        degradation: makes the small picture, ``⌈side / factor⌉``; :class:`BicubicDownscale` of ``factor`` unless something else is given.
    """

    def __init__(self, network: nn.Module, factor: int, degradation: nn.Module | None = None) -> None:
        super().__init__()
        self.network, self.factor = network, factor
        self.degradation = degradation or BicubicDownscale(factor)

    def degrade(self, images: Tensor) -> Tensor:
        """``[B, 3, H, W]`` → ``[B, 3, ⌈H/factor⌉, ⌈W/factor⌉]``: what arrives."""
        return quantize_8bit(self.degradation(images))

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """``[B, 3, H, W]`` in 0…1 → the same shape; boxes stay where they are."""
        low = self.degrade(images)
        whole = (low.shape[-2] * self.factor, low.shape[-1] * self.factor)
        return quantize_8bit(resize_bicubic(self.network(low), whole)[..., : images.shape[-2], : images.shape[-1]])


def resize_bicubic(images: Tensor, size: tuple[int, int]) -> Tensor:
    """``images [B, 3, H, W]`` at ``size``, antialiased bicubic; as they are if that is their size."""
    if tuple(images.shape[-2:]) == size:
        return images
    return nnf.interpolate(images.float(), size=size, mode="bicubic", align_corners=False, antialias=True)


class SRDetector(nn.Module):
    """``detector``, shown ``look(picture)`` in place of each picture; ``preprocess`` keeps the size, so boxes mean the same.

    It has torchvision's contract, so it is trained (a detector fine-tuned on low-resolution pictures) and evaluated like any detector.
    """

    def __init__(self, detector: nn.Module, preprocess: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.detector, self.preprocess = detector, preprocess

    def forward(
        self, images: Sequence[Tensor], targets: Sequence[Target] | None = None
    ) -> list[Target] | dict[str, Tensor]:
        """Pictures ``[3, H, W]`` in 0…1 → what the detector says of ``look`` of them.

        Raises:
            ValueError: if ``look`` changes a picture's size.
        """
        seen = [self.preprocess(image[None])[0] for image in images]
        for before, after in zip(images, seen, strict=True):
            if before.shape != after.shape:
                raise ValueError(
                    f"look makes {tuple(after.shape)} of {tuple(before.shape)}; boxes would be lost. "
                    "For pictures that are small already there is Magnified."
                )
        return self.detector(seen, targets)


class UpscaledDetector(nn.Module):
    """``detector`` for pictures that are small already: they are enlarged by ``network``, and boxes come back in their own pixels."""

    def __init__(self, detector: nn.Module, network: nn.Module) -> None:
        super().__init__()
        self.detector, self.network = detector, network

    @torch.no_grad()
    def forward(self, images: Sequence[Tensor]) -> list[dict[str, Tensor]]:
        """Pictures ``[3, H, W]`` in 0…1 → detections: boxes ``[N, 4]`` xyxy and masks ``[N, 1, H, W]`` in their pixels.

        Raises:
            ValueError: in training mode.
        """
        if self.training:
            raise ValueError("Magnified only detects: call .eval(). To train on enlarged pictures there is Through.")
        enlarged = [quantize_8bit(self.network(image[None]))[0] for image in images]
        return [
            self._rescale_detections(found, image) for found, image in zip(self.detector(enlarged), images, strict=True)
        ]

    def _rescale_detections(self, detections: dict[str, Tensor], image: Tensor) -> dict[str, Tensor]:
        detections = dict(detections, boxes=detections["boxes"] / self.network.scale)  # type: ignore[operator]
        if "masks" in detections:
            detections["masks"] = nnf.interpolate(detections["masks"], size=image.shape[-2:], mode="area")
        return detections
