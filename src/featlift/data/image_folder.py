"""Folders of images without annotations, for training that needs no labels, such as super-resolution."""

from os import PathLike
from pathlib import Path
from typing import Any

import torch

from featlift.data.dataset import Sample
from featlift.data.image_io import MAX_PIXELS, list_images, read_image, read_image_sizes


class UnlabeledImageFolder:
    """Images in ``folder`` and its subfolders, sorted by path, without objects.

    Implements `featlift.data.dataset.ImageDataset`.

    Args:
        folder: Folder of images.
        min_size: Minimum shorter side in pixels; smaller images are excluded.
        max_pixels: Maximum number of pixels of an image.

    Raises:
        FileNotFoundError: If the folder is missing or contains no image.
        ValueError: If all images are smaller than ``min_size``.
        ImageReadError: naming the file whose header cannot be read, or which has more than ``max_pixels`` pixels.
    """

    def __init__(self, folder: str | PathLike[str], min_size: int = 1, max_pixels: int = MAX_PIXELS) -> None:
        self.classes: list[str] = []
        self.category_ids: list[int] = []
        self.folder, self.max_pixels = Path(folder), max_pixels
        sizes = {path: read_image_sizes(path, max_pixels)[0] for path in list_images(folder)}
        self._sizes = {path: size for path, size in sizes.items() if min(size) >= min_size}
        self._files = list(self._sizes)
        if not self._files:
            largest = max(min(size) for size in sizes.values())
            raise ValueError(
                f"No image in {folder} has both sides of at least {min_size} px; the largest has {largest}. Choose smaller crops."
            )

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> Sample:
        """Image ``index`` [3, H, W] float32 in 0…1 and a target without objects."""
        empty = torch.zeros(0)
        return read_image(self._files[index], None, self.max_pixels), {
            "boxes": empty.reshape(0, 4),
            "labels": empty.long(),
            "iscrowd": empty.long(),
            "area": empty,
            "image_id": torch.tensor(index % len(self) + 1),
        }

    def image_name(self, index: int) -> str:
        """Path relative to the folder."""
        return str(self._files[index].relative_to(self.folder))

    def image_size(self, index: int) -> tuple[int, int]:
        """Height and width in pixels, after the EXIF rotation."""
        return self._sizes[self._files[index]]

    def coco(self) -> dict[str, Any]:
        """COCO dictionary of the images, without annotations and categories."""
        images = [
            {"id": index + 1, "file_name": self.image_name(index), "height": height, "width": width}
            for index, (height, width) in enumerate(map(self.image_size, range(len(self))))
        ]
        return {"images": images, "annotations": [], "categories": []}
