"""On-disk cache of descriptors, keyed by image content, embedder and downscaling."""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

from torch import Tensor

from featlift.checkpoints.fingerprint import module_fingerprint
from featlift.registry import check_choice
from featlift.retrieval.descriptors import DOWNSCALERS, Embedder, embed_images
from featlift.retrieval.embedders import EmbedderConfig, build_embedder
from featlift.retrieval.vector_store import VectorStore


def embedder_fingerprint(embedder: Embedder, downscale_mode: str = "image") -> str:
    """Return 16 hexadecimal digits that depend on the layers, their options, all weights, the input size, ``downscale_mode`` and
    ``fast_decode``.
    """
    decoding = ("fast_decode",) if embedder.fast_decode else ()
    return module_fingerprint(embedder, embedder.input_size, downscale_mode, *decoding)


def image_key(path: Path, box: tuple[float, ...] | None = None) -> str:
    """Return a hash of the content of the file at ``path`` and the crop ``box``; it does not depend on the path."""
    return hashlib.sha256(Path(path).read_bytes() + repr(box).encode()).hexdigest()[:32]


class DescriptorCache:
    """Embeds images, and stores the descriptors on disk. Several processes may use one folder; each sees what others wrote.

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
        check_choice(downscale_mode, DOWNSCALERS, "downscale_mode")
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
        self.store.refresh()
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
