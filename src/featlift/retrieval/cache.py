"""Descriptors that were computed once: on disk, found again by what the picture, the encoder and the view were."""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from featlift.retrieval.descriptors import VIEWS, Describer, describe
from featlift.retrieval.vector_store import VectorStore


def fingerprint(describer: Describer, view: str = "picture") -> str:
    """16 letters that change with the layers, their options, any weight, the input size or the view."""
    digest = hashlib.sha256(f"{describer!r} {describer.size} {view}".encode())
    for name, tensor in [*describer.named_parameters(), *describer.named_buffers()]:
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def picture_key(file: Path, box: tuple[float, ...] | None = None) -> str:
    """A name for the content of ``file``, cut to ``box``; a file that moves keeps it, a file that changes does not."""
    return hashlib.sha256(Path(file).read_bytes() + repr(box).encode()).hexdigest()[:32]


class DescriptorCache:
    """Describes pictures, and remembers.

    Args:
        folder: one folder for many encoders; each has its own inside, named by its fingerprint.
        describer: the frozen F.
        dimension: D, the length of its descriptors.
        view: how pictures are made small, a name of :data:`VIEWS`.
        flush: an interrupted call loses at most so many descriptors.

    Raises:
        ValueError: if the view is unknown.
    """

    def __init__(self, folder: Path, describer: Describer, dimension: int, view: str = "picture", flush: int = 256):
        if view not in VIEWS:
            raise ValueError(f"Unknown view '{view}'; choose one of {', '.join(VIEWS)}.")
        self.describer, self.view, self.flush = describer, VIEWS[view], flush
        name = fingerprint(describer, view)
        self.store = VectorStore(Path(folder) / name, dimension, about=name)

    def describe(self, keys: Sequence[str], read: Callable[[int], Tensor], ratio: float = 1.0) -> Tensor:
        """Unit vectors ``[N, D]`` of N pictures, seen ``ratio`` times smaller.

        Args:
            keys: :func:`picture_key` of each.
            read: ``read(i)`` → picture i, ``[3, H, W]`` in 0…1; called only for pictures that are new.
            ratio: per side, at least 1.
        """
        names = [f"{key}/{ratio:g}" for key in keys]
        new = list({name: i for i, name in enumerate(names) if name not in self.store}.values())
        for start in range(0, len(new), self.flush):
            part = new[start : start + self.flush]
            seen = (self.view(read(i), ratio, self.describer.size) for i in part)
            self.store.add([names[i] for i in part], describe(self.describer, seen))
        return self.store.take([self.store.row(name) for name in names])
