"""Fixed-size crops, and the images large enough for them."""

from typing import Any

import torch
from torch import Tensor

from featlift.data.augment import crop_sample
from featlift.data.dataset import ImageDataset, Sample
from featlift.data.fingerprint import HasFacts, ground_truth_facts
from featlift.features import Target


class RandomCrop:
    """Augmentation: a random crop of ``size`` × ``size`` pixels (FDSR, Sec. 3.1: 384).

    Raises:
        ValueError: on a smaller image; :func:`select_large_images` excludes those.
    """

    def __init__(self, size: int, min_box_size: float = 2.0) -> None:
        self.size, self.min_box_size = size, min_box_size

    def __call__(self, image: Tensor, target: Target, generator: torch.Generator) -> Sample:
        """``[3, H, W]`` → ``[3, size, size]``; removes objects whose clipped box has a side below ``min_box_size`` pixels."""
        height, width = image.shape[-2:]
        if min(height, width) < self.size:
            raise ValueError(
                f"A crop of {self.size} px does not fit into an image of {height}x{width}; exclude small images."
            )
        top = int(torch.randint(height - self.size + 1, (), generator=generator))
        left = int(torch.randint(width - self.size + 1, (), generator=generator))
        return crop_sample(image, target, (top, left, self.size, self.size), self.min_box_size)


class RandomCropOfLargeImages:
    """Augmentation: a random crop of images larger than ``size`` × ``size`` pixels; shorter sides are kept.

    After resizing to random sizes this is the usual scale augmentation at a constant cost per image.

    Raises:
        ValueError: If ``size`` is not positive.
    """

    def __init__(self, size: int, min_box_size: float = 2.0) -> None:
        if size < 1:
            raise ValueError(f"The side of the crop is {size}; it is at least 1 px.")
        self.size, self.min_box_size = size, min_box_size

    def __call__(self, image: Tensor, target: Target, generator: torch.Generator) -> Sample:
        """``[3, H, W]`` → ``[3, min(H, size), min(W, size)]``; removes objects whose clipped box has a side below ``min_box_size``."""
        height, width = (min(side, self.size) for side in image.shape[-2:])
        top = int(torch.randint(image.shape[-2] - height + 1, (), generator=generator))
        left = int(torch.randint(image.shape[-1] - width + 1, (), generator=generator))
        return crop_sample(image, target, (top, left, height, width), self.min_box_size)


class DatasetSubset:
    """The images of ``dataset`` at ``indices``, in this order."""

    def __init__(self, dataset: ImageDataset, indices: list[int]) -> None:
        self.classes, self.category_ids = dataset.classes, dataset.category_ids
        self.dataset, self.indices = dataset, indices

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Sample:
        """Image ``index`` of the subset; see `featlift.data.dataset`."""
        return self.dataset[self.indices[index]]

    def image_name(self, index: int) -> str:
        """Name of the image in the full dataset."""
        return self.dataset.image_name(self.indices[index])

    def image_size(self, index: int) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.dataset.image_size(self.indices[index])

    def facts(self) -> dict[str, Any]:
        """Facts of the full dataset with the indices, if it states its own; else those of the selected images."""
        if not isinstance(self.dataset, HasFacts):
            return ground_truth_facts(self)
        facts = self.dataset.facts()
        order = facts.get("indices")
        return {**facts, "indices": [order[index] for index in self.indices] if order else self.indices}

    def coco(self) -> dict:
        """Ground truth of the selected images; ids are those of the full dataset."""
        truth = self.dataset.coco()
        images = [truth["images"][index] for index in self.indices]
        ids = {image["id"] for image in images}
        annotations = [annotation for annotation in truth["annotations"] if annotation["image_id"] in ids]
        return {**truth, "images": images, "annotations": annotations}


def select_large_images(
    dataset: ImageDataset, min_size: int, num_images: int | None = None, seed: int = 0
) -> DatasetSubset:
    """Images with both sides of at least ``min_size`` pixels, or a random ``num_images`` of them drawn with ``seed``.

    FDSR, Sec. 3.1: 20,000 images of COCO with both sides above 384.

    Raises:
        ValueError: If no image is large enough.
    """
    large = [index for index in range(len(dataset)) if min(dataset.image_size(index)) >= min_size]
    if not large:
        largest = max(min(dataset.image_size(index)) for index in range(len(dataset)))
        raise ValueError(
            f"No image has both sides of at least {min_size} px; the largest has {largest}. Choose smaller crops."
        )
    if num_images is not None and num_images < len(large):
        order = torch.randperm(len(large), generator=torch.Generator().manual_seed(seed))
        large = sorted(large[index] for index in order[:num_images].tolist())
    return DatasetSubset(dataset, large)
