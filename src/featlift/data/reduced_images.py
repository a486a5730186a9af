"""Training images decoded at a reduced size, before they are resized to the sizes of a training."""

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import torch

from featlift.data.dataset import FULL_SIZE, ImageDataset, Sample


@runtime_checkable
class ReducibleDataset(ImageDataset, Protocol):
    """A dataset of image files that can be decoded at a reduced size."""

    def read_reduced(self, index: int, min_size: tuple[int, int]) -> Sample:
        """Image of at least ``min_size`` (height, width), or the full one, and the target of the full image."""
        ...


class ReducedImages:
    """The images of ``dataset`` as `featlift.data.augment.RandomShortestSize` with these sizes needs them.

    A JPEG file is decoded at 1/2, 1/4 or 1/8 of its size if the image still has the size to which the largest of ``min_size`` resizes
    it, so no image is enlarged. Boxes and masks stay those of the full image until it is resized, and are then equal to those without
    this class;
    edges in the image move by less than a pixel, because reduced sizes are rounded up.

    Args:
        dataset: Images that are files.
        min_size: Short sides in pixels, one of which is drawn.
        max_size: Maximum long side in pixels.
    """

    def __init__(self, dataset: ReducibleDataset, min_size: Sequence[int], max_size: int) -> None:
        self.dataset, self.min_size, self.max_size = dataset, max(min_size), max_size
        self.classes, self.category_ids = dataset.classes, dataset.category_ids

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Sample:
        """Image and target; an image decoded at less has the size of its file as ``target["full_size"]``."""
        full = self.image_size(index)
        scale = min(self.min_size / min(full), self.max_size / max(full))
        height, width = (max(1, round(side * scale)) for side in full)
        image, target = self.dataset.read_reduced(index, (height, width))
        return image, target if tuple(image.shape[-2:]) == full else {**target, FULL_SIZE: torch.tensor(full)}

    def image_name(self, index: int) -> str:
        """Name of the image in the dataset."""
        return self.dataset.image_name(index)

    def image_size(self, index: int) -> tuple[int, int]:
        """Height and width of the full image in pixels."""
        return self.dataset.image_size(index)

    def coco(self) -> dict[str, Any]:
        """Ground truth of the full images."""
        return self.dataset.coco()


def reduce_images(dataset: ImageDataset, min_size: Sequence[int], max_size: int) -> ReducedImages:
    """Return the images of ``dataset``, decoded at a reduced size.

    Raises:
        ValueError: If its images are not files.
    """
    if not isinstance(dataset, ReducibleDataset):
        raise ValueError(
            f"The images of a {type(dataset).__name__} are not files to decode; leave out --data.fast-decode."
        )
    return ReducedImages(dataset, min_size, max_size)
