"""From a list of pictures to one batch: the transform at the front of every detector."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.models.detection.transform import GeneralizedRCNNTransform


class BatchTransform(GeneralizedRCNNTransform):
    """Pads pictures into one batch, at the bottom and right, with the color that the backbone maps to zero.

    In training it never resizes: sizes are the business of the data (``featlift.data.batches``), because the half-size student must stay
    half-size. In evaluation it resizes to ``test_size`` and detections come back in the pixels of the picture that was given.

    Args:
        mean: ``[1, 3, 1, 1]``, the padding color in 0…1.
        test_size: (short side, longest side) in pixels for evaluation; None leaves pictures as they are.
        size_divisible: batch height and width are multiples of this.
    """

    def __init__(self, mean: Tensor, test_size: tuple[int, int] | None = None, size_divisible: int = 32):
        short, longest = test_size or (1, 1)
        super().__init__(short, longest, mean.flatten().tolist(), [1.0, 1.0, 1.0], size_divisible=size_divisible)
        self.test_size = test_size

    def normalize(self, image: Tensor) -> Tensor:
        """``[3, H, W]`` unchanged: normalization is inside the backbone. Raises TypeError for integer pictures."""
        if not image.is_floating_point():
            raise TypeError(
                f"Pictures must be floating point in 0…1, but one is {image.dtype}; divide 8-bit pictures by 255."
            )
        return image

    def resize(self, image: Tensor, target: dict[str, Tensor] | None = None) -> tuple[Tensor, dict[str, Tensor] | None]:
        """``[3, H, W]`` at the test size, in evaluation; unchanged in training."""
        if self.training or self.test_size is None:
            return image, target
        return super().resize(image, target)

    def batch_images(self, images: Sequence[Tensor], size_divisible: int = 32) -> Tensor:
        """List of ``[3, H, W]`` → ``[B, 3, H', W']``, padded with the mean color."""
        mean = torch.as_tensor(self.image_mean, dtype=images[0].dtype, device=images[0].device).view(3, 1, 1)
        return super().batch_images([image - mean for image in images], size_divisible) + mean
