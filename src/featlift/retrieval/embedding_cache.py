"""On-disk cache of descriptors, keyed by image content, embedder and downscaling."""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from featlift.data.retrieval_readers import (
    CropBox,
    read_image_crop,
)
from featlift.retrieval.descriptors import DOWNSCALERS, Embedder, embed_images
from featlift.retrieval.embedders import EmbedderConfig, build_embedder
from featlift.retrieval.vector_store import VectorStore


def embedder_fingerprint(embedder: Embedder, downscale_mode: str = "image") -> str:
    """Return 16 hexadecimal digits that depend on the layers, their options, all weights, the input size and ``downscale_mode``."""
    digest = hashlib.sha256(f"{embedder!r} {embedder.input_size} {downscale_mode}".encode())
    for name, tensor in [*embedder.named_parameters(), *embedder.named_buffers()]:
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def image_key(path: Path, box: tuple[float, ...] | None = None) -> str:
    """Return a hash of the content of the file at ``path`` and the crop ``box``; it does not depend on the path."""
    return hashlib.sha256(Path(path).read_bytes() + repr(box).encode()).hexdigest()[:32]


class DescriptorCache:
    """Embeds images, and stores the descriptors on disk.

    Args:
        folder: Cache folder, shared by all embedders; each has a subfolder named by its fingerprint.
        embedder: The frozen F.
        dimension: D, the length of its descriptors.
        downscale_mode: How images are downscaled, a key of :data:`DOWNSCALERS`.
        chunk_size: Number of descriptors written at once, the maximum lost by an interrupted call.

    Raises:
        ValueError: If ``downscale_mode`` is unknown.
    """

    def __init__(
        self, folder: Path, embedder: Embedder, dimension: int, downscale_mode: str = "image", chunk_size: int = 256
    ):
        if downscale_mode not in DOWNSCALERS:
            raise ValueError(f"Unknown downscale_mode '{downscale_mode}'; choose one of {', '.join(DOWNSCALERS)}.")
        self.embedder, self.downscale, self.chunk_size = embedder, DOWNSCALERS[downscale_mode], chunk_size
        name = embedder_fingerprint(embedder, downscale_mode)
        self.store = VectorStore(Path(folder) / name, dimension, fingerprint=name)

    def embed(self, keys: Sequence[str], read_image: Callable[[int], Tensor], ratio: float = 1.0) -> Tensor:
        """Return the unit vectors ``[N, D]`` of N images, downscaled by ``ratio``.

        Args:
            keys: :func:`image_key` of each image.
            read_image: Function that returns image i, ``[3, H, W]`` in 0…1; called only for images not in the cache.
            ratio: Downscaling ratio per side, at least 1.
        """
        names = [f"{key}/{ratio:g}" for key in keys]
        missing = list({name: i for i, name in enumerate(names) if name not in self.store}.values())
        for start in range(0, len(missing), self.chunk_size):
            chunk = missing[start : start + self.chunk_size]
            images = (self.downscale(read_image(i), ratio, self.embedder.input_size) for i in chunk)
            self.store.add([names[i] for i in chunk], embed_images(self.embedder, images))
        return self.store.take([self.store.row(name) for name in names])


def build_descriptor_cache(config: EmbedderConfig) -> DescriptorCache:
    """Embedder F with a descriptor cache on disk."""
    F, dimension = build_embedder(config)
    return DescriptorCache(Path(config.cache_folder), F, dimension, config.downscale_mode)


def describe_files(
    cache: DescriptorCache, files: Sequence[Path], ratio: float, boxes: Sequence[CropBox | None] = ()
) -> Tensor:
    """Descriptors of all files, cropped to their boxes and downscaled by ``ratio``: ``[N, D]``."""
    boxes = boxes or [None] * len(files)
    keys = [image_key(file, box) for file, box in zip(files, boxes, strict=True)]
    return cache.embed(keys, lambda i: read_image_crop(files[i], boxes[i]), ratio)
