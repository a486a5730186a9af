"""Batches of descriptors: what the small picture gave, how small it was, and what the large picture gave."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class DescriptorPairs:
    """N pictures at R ratios.

    Attributes:
        ratios: R of them, per side.
        low: ``[R, N, …]``, what is known of each picture at each ratio: its unit vector ``[D]``, or its number.
        high: ``[N, D]``, unit vectors of the pictures as they are.
    """

    ratios: Sequence[float]
    low: Tensor
    high: Tensor

    def __post_init__(self) -> None:
        if self.low.shape[:2] != (len(self.ratios), len(self.high)):
            low, high = tuple(self.low.shape), tuple(self.high.shape)
            raise ValueError(f"{len(self.ratios)} ratios, low {low} and high {high} do not fit: [R, N, …] and [N, D].")

    def at_ratio(self, ratio: float) -> "DescriptorPairs":
        """The same pictures at one of the ratios."""
        place = list(self.ratios).index(ratio)
        return DescriptorPairs([ratio], self.low[place : place + 1], self.high)

    def split(self, fraction: float) -> tuple["DescriptorPairs", "DescriptorPairs"]:
        """The first ``fraction`` of the pictures, and the rest."""
        first = round(fraction * len(self.high))
        known, held = (
            DescriptorPairs(self.ratios, self.low[:, part], self.high[part])
            for part in (slice(first), slice(first, None))
        )
        return known, held


@dataclass(frozen=True)
class DescriptorPairLoader:
    """An endless stream of random pairs, for :func:`featlift.training.fit`: every picture and every ratio equally
    often.

    Batch k is a function of (seed, k, rank), so a position in the stream is one number.

    Attributes:
        pairs: what is drawn from.
        batch_size: B, pairs in a batch.
        seed: of the draws.
    """

    pairs: DescriptorPairs
    batch_size: int
    seed: int = 0

    def iter_from(
        self, step: int, rank: int = 0, world_size: int = 1
    ) -> Iterator[tuple[tuple[Tensor, Tensor], Tensor]]:
        """Batches ``step``, ``step + 1``, …: ``((low [B, …], ratio [B]), high [B, D])``."""
        ratios = torch.tensor([float(ratio) for ratio in self.pairs.ratios])
        while True:
            draw = torch.Generator().manual_seed(hash((self.seed, step, rank)) % 2**63)
            which = torch.randint(len(ratios), (self.batch_size,), generator=draw)
            picture = torch.randint(len(self.pairs.high), (self.batch_size,), generator=draw)
            yield (self.pairs.low[which, picture], ratios[which]), self.pairs.high[picture]
            step += 1
