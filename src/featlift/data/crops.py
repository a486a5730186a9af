"""Windows of one size out of pictures of any size."""

import torch
from torch import Tensor

from featlift.data.augment import crop_sample
from featlift.data.dataset import ImageDataset, Sample
from featlift.resolution import Target


class RandomCrop:
    """An augmentation: a random window of ``size`` × ``size`` pixels (FDSR, Sec. 3.1: 384).

    Raises:
        ValueError: when it meets a smaller picture; :func:`select_large_images` leaves those out.
    """

    def __init__(self, size: int, min_box_size: float = 2.0) -> None:
        self.size, self.min_box_size = size, min_box_size

    def __call__(self, image: Tensor, target: Target, generator: torch.Generator) -> Sample:
        """``[3, H, W]`` → ``[3, side, side]``; objects of which less than ``smallest`` px a side are left are dropped."""
        height, width = image.shape[-2:]
        if min(height, width) < self.size:
            raise ValueError(
                f"A window of {self.size} px does not fit into a picture of {height}x{width}; leave small pictures out."
            )
        top = int(torch.randint(height - self.size + 1, (), generator=generator))
        left = int(torch.randint(width - self.size + 1, (), generator=generator))
        return crop_sample(image, target, (top, left, self.size, self.size), self.min_box_size)


class DatasetSubset:
    """The pictures of ``dataset`` with the given ``indices``, in their order."""

    def __init__(self, dataset: ImageDataset, indices: list[int]) -> None:
        self.classes = dataset.classes
        self._dataset, self._indices = dataset, indices

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: int) -> Sample:
        """Picture ``index`` of the selection; see `featlift.data.dataset`."""
        return self._dataset[self._indices[index]]

    def image_name(self, index: int) -> str:
        """Its name in the whole dataset."""
        return self._dataset.image_name(self._indices[index])

    def image_size(self, index: int) -> tuple[int, int]:
        """Height and width in pixels."""
        return self._dataset.image_size(self._indices[index])

    def coco(self) -> dict:
        """The ground truth of the selected pictures alone; ids as in the whole dataset."""
        whole = self._dataset.coco()
        images = [whole["images"][index] for index in self._indices]
        ids = {image["id"] for image in images}
        annotations = [annotation for annotation in whole["annotations"] if annotation["image_id"] in ids]
        return {**whole, "images": images, "annotations": annotations}


def select_large_images(
    dataset: ImageDataset, min_size: int, num_images: int | None = None, seed: int = 0
) -> DatasetSubset:
    """The pictures whose both sides have ``min_size`` px or more; of these, ``num_images`` drawn by ``seed`` (all without).

    FDSR, Sec. 3.1: 20,000 pictures of COCO with both sides above 384.

    Raises:
        ValueError: if no picture is large enough.
    """
    large = [index for index in range(len(dataset)) if min(dataset.image_size(index)) >= min_size]
    if not large:
        largest = max(min(dataset.image_size(index)) for index in range(len(dataset)))
        raise ValueError(f"No picture has {min_size} px a side; the largest has {largest}. Choose smaller crops.")
    if num_images is not None and num_images < len(large):
        order = torch.randperm(len(large), generator=torch.Generator().manual_seed(seed))
        large = sorted(large[place] for place in order[:num_images].tolist())
    return DatasetSubset(dataset, large)
