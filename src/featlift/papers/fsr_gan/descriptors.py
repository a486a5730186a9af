"""Descriptors of image files, computed once and cached."""

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from featlift.data.image_io import CropBox, read_image_crop
from featlift.retrieval.embedding_cache import DescriptorCache, image_key
from featlift.training import distributed


def describe_files(
    cache: DescriptorCache, files: Sequence[Path], ratio: float, boxes: Sequence[CropBox | None] = ()
) -> Tensor:
    """Return the descriptors of all files, cropped to their boxes and downscaled by ``ratio``: ``[N, D]``.

    Of several processes, each embeds its share of the files into the common cache, and returns all; all of them have to call it.
    """
    boxes = boxes or [None] * len(files)
    keys = [image_key(file, box) for file, box in zip(files, boxes, strict=True)]
    rank, world_size = distributed.get_rank(), distributed.get_world_size()
    if world_size > 1:
        share = range(rank, len(files), world_size)
        cache.embed([keys[i] for i in share], lambda i: read_image_crop(files[share[i]], boxes[share[i]]), ratio)
        distributed.barrier()
    return cache.embed(keys, lambda i: read_image_crop(files[i], boxes[i]), ratio)
