"""Transform of every detector: from a list of images to a padded batch."""

from collections.abc import Sequence

import torch
import torch.nn.functional as nnf
from torch import Tensor
from torchvision.models.detection.transform import GeneralizedRCNNTransform, resize_boxes


class BatchTransform(GeneralizedRCNNTransform):
    """Pad images at the bottom and right into one batch, with the color that the backbone maps to zero.

    Images are resized in evaluation only; in training, the data loader (``featlift.data.batches``) sets the size, so that the half-size
    student keeps its size. Detections are returned in pixels of the input image.

    Args:
        mean: Padding color ``[1, 3, 1, 1]`` in 0…1.
        test_size: (shortest side, longest side) in pixels for evaluation; None keeps the image size.
        size_divisible: Batch height and width are multiples of this.
    """

    def __init__(self, mean: Tensor, test_size: tuple[int, int] | None = None, size_divisible: int = 32):
        shortest, longest = test_size or (1, 1)
        super().__init__(shortest, longest, mean.flatten().tolist(), [1.0, 1.0, 1.0], size_divisible=size_divisible)
        self.test_size = test_size

    def normalize(self, image: Tensor) -> Tensor:
        """Return ``image [3, H, W]`` unchanged, since the backbone normalizes. Raises TypeError for integer images."""
        if not image.is_floating_point():
            raise TypeError(
                f"Images must be floating point in 0…1, but one has dtype {image.dtype}; divide 8-bit images by 255."
            )
        return image

    def resize(self, image: Tensor, target: dict[str, Tensor] | None = None) -> tuple[Tensor, dict[str, Tensor] | None]:
        """Resize ``image [3, H, W]`` and its target to the test size in evaluation; no change in training. No side is below one pixel."""
        if self.training or self.test_size is None:
            return image, target
        sides = image.shape[-2:]
        scale = min(self.min_size[-1] / min(sides), self.max_size / max(sides))
        if min(sides) * scale >= 1:
            return super().resize(image, target)
        size = [max(1, int(side * scale)) for side in sides]
        if target is not None:
            target = target | {"boxes": resize_boxes(target["boxes"], list(sides), size)}
        return nnf.interpolate(image[None], size, mode="bilinear", align_corners=False)[0], target

    def batch_images(self, images: Sequence[Tensor], size_divisible: int = 32) -> Tensor:
        """Pad a list of ``[3, H, W]`` with the mean color to ``[B, 3, H', W']``."""
        mean = torch.as_tensor(self.image_mean, dtype=images[0].dtype, device=images[0].device).view(3, 1, 1)
        return super().batch_images([image - mean for image in images], size_divisible) + mean
