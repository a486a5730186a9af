"""Descriptors that were computed once: on disk, found again by what the picture, the encoder and the view were."""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from featlift.retrieval.descriptors import DOWNSCALERS, Embedder, embed_images
from featlift.retrieval.vector_store import VectorStore


def embedder_fingerprint(embedder: Embedder, downscale_mode: str = "picture") -> str:
    """16 letters that change with the layers, their options, any weight, the input size or the view."""
    digest = hashlib.sha256(f"{embedder!r} {embedder.input_size} {downscale_mode}".encode())
    for name, tensor in [*embedder.named_parameters(), *embedder.named_buffers()]:
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def image_key(path: Path, box: tuple[float, ...] | None = None) -> str:
    """A name for the content of ``path``, cut to ``box``; a file that moves keeps it, a file that changes does not."""
    return hashlib.sha256(Path(path).read_bytes() + repr(box).encode()).hexdigest()[:32]


class DescriptorCache:
    """Describes pictures, and remembers.

    Args:
        folder: one folder for many encoders; each has its own inside, named by its fingerprint.
        embedder: the frozen F.
        dimension: D, the length of its descriptors.
        downscale_mode: how pictures are made small, a name of :data:`DOWNSCALERS`.
        chunk_size: an interrupted call loses at most so many descriptors.

    Raises:
        ValueError: if the view is unknown.
    """

    def __init__(
        self, folder: Path, embedder: Embedder, dimension: int, downscale_mode: str = "picture", chunk_size: int = 256
    ):
        if downscale_mode not in DOWNSCALERS:
            raise ValueError(f"Unknown view '{downscale_mode}'; choose one of {', '.join(DOWNSCALERS)}.")
        self.embedder, self.downscale, self.chunk_size = embedder, DOWNSCALERS[downscale_mode], chunk_size
        name = embedder_fingerprint(embedder, downscale_mode)
        self.store = VectorStore(Path(folder) / name, dimension, fingerprint=name)

    def embed(self, keys: Sequence[str], read_image: Callable[[int], Tensor], ratio: float = 1.0) -> Tensor:
        """Unit vectors ``[N, D]`` of N pictures, seen ``ratio`` times smaller.

        Args:
            keys: :func:`image_key` of each.
            read_image: ``read(i)`` → picture i, ``[3, H, W]`` in 0…1; called only for pictures that are new.
            ratio: per side, at least 1.
        """
        names = [f"{key}/{ratio:g}" for key in keys]
        new = list({name: i for i, name in enumerate(names) if name not in self.store}.values())
        for start in range(0, len(new), self.chunk_size):
            part = new[start : start + self.chunk_size]
            seen = (self.downscale(read_image(i), ratio, self.embedder.input_size) for i in part)
            self.store.add([names[i] for i in part], embed_images(self.embedder, seen))
        return self.store.take([self.store.row(name) for name in names])
