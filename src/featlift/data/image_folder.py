"""A folder of pictures without annotations: enough for what learns from pictures alone, such as super-resolution."""

from os import PathLike
from pathlib import Path
from typing import Any

import torch

from featlift.data.dataset import Sample
from featlift.data.image_io import read_image, read_image_sizes

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm")


def list_images(folder: str | PathLike[str]) -> list[Path]:
    """The picture files in ``folder`` and below, by name.

    Raises:
        FileNotFoundError: if there is no such folder, or no picture in it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"There is no folder {folder}.")
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
    if not files:
        raise FileNotFoundError(f"There is no picture in {folder} (looked for {', '.join(IMAGE_SUFFIXES)}).")
    return files


class UnlabeledImageFolder:
    """The pictures in ``folder`` and below, by name; none has an object. Obeys `featlift.data.dataset.ImageDataset`.

    Args:
        folder: of pictures.
        min_size: only those whose shorter side has so many pixels are taken.

    Raises:
        FileNotFoundError: without a folder, or without pictures in it.
        ValueError: if all pictures are smaller than ``min_size``.
        BrokenPicture: naming the file whose header cannot be read.
    """

    def __init__(self, folder: str | PathLike[str], min_size: int = 1) -> None:
        self.classes: list[str] = []
        self.folder = Path(folder)
        sizes = {path: read_image_sizes(path)[0] for path in list_images(folder)}
        self._sizes = {path: size for path, size in sizes.items() if min(size) >= min_size}
        self._files = list(self._sizes)
        if not self._files:
            largest = max(min(size) for size in sizes.values())
            raise ValueError(
                f"No picture in {folder} has {min_size} px a side; the largest has {largest}. Choose smaller crops."
            )

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> Sample:
        """Picture ``index`` [3, H, W] float32 in 0…1, and a target without objects."""
        none = torch.zeros(0)
        return read_image(self._files[index]), {
            "boxes": none.reshape(0, 4),
            "labels": none.long(),
            "iscrowd": none.long(),
            "area": none,
            "image_id": torch.tensor(index % len(self) + 1),
        }

    def image_name(self, index: int) -> str:
        """The path below the folder."""
        return str(self._files[index].relative_to(self.folder))

    def image_size(self, index: int) -> tuple[int, int]:
        """Height and width in pixels, as the picture is seen upright."""
        return self._sizes[self._files[index]]

    def coco(self) -> dict[str, Any]:
        """COCO's form: pictures, and neither objects nor classes."""
        images = [
            {"id": index + 1, "file_name": self.image_name(index), "height": height, "width": width}
            for index, (height, width) in enumerate(map(self.image_size, range(len(self))))
        ]
        return {"images": images, "annotations": [], "categories": []}
