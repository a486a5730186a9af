"""Descriptors of image files, computed once and cached."""

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from featlift.data.image_io import CropBox, read_image_crop
from featlift.retrieval.embedding_cache import DescriptorCache, image_key


def describe_files(
    cache: DescriptorCache, files: Sequence[Path], ratio: float, boxes: Sequence[CropBox | None] = ()
) -> Tensor:
    """Return the descriptors of all files, cropped to their boxes and downscaled by ``ratio``: ``[N, D]``."""
    boxes = boxes or [None] * len(files)
    keys = [image_key(file, box) for file, box in zip(files, boxes, strict=True)]
    return cache.embed(keys, lambda i: read_image_crop(files[i], boxes[i]), ratio)
