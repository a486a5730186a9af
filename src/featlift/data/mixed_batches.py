"""Batches of two data loaders together, such as labeled and pseudo-labeled images."""

from collections.abc import Iterator
from functools import cached_property

from featlift.data.batches import DetectionBatch, ResumableDataLoader


class MixedDataLoader:
    """Endless batches: those of ``first`` followed by those of ``second``, each with its own number of images.

    As of both loaders, batch ``k`` is a function of their seeds and ``k``. Each of several processes gets its part of both.

    Args:
        first: Loader of the first images of every batch.
        second: Loader of the others.
    """

    def __init__(self, first: ResumableDataLoader, second: ResumableDataLoader) -> None:
        self.first, self.second = first, second
        self.batch_size = first.batch_size + second.batch_size

    @cached_property
    def fingerprint(self) -> str:
        """Fingerprint of both datasets; a training that is resumed with others is refused."""
        return f"{self.first.fingerprint}+{self.second.fingerprint}"

    def iter_from(self, step: int, rank: int = 0, world_size: int = 1) -> Iterator[DetectionBatch]:
        """Iterate endlessly over batches ``step``, ``step + 1``, …: lists of images ``[3, H, W]`` and their targets.

        Raises:
            ValueError: If the batch size of either loader is not divisible by ``world_size``.
        """
        both = zip(
            self.first.iter_from(step, rank, world_size), self.second.iter_from(step, rank, world_size), strict=True
        )
        return ((images + more, targets + other) for (images, targets), (more, other) in both)
