"""Pairs of low-resolution and full-resolution descriptors, and their loader."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class DescriptorPairs:
    """Descriptors of N images at R downscaling ratios.

    Attributes:
        ratios: R downscaling ratios per side.
        low: ``[R, N, …]``, unit-norm descriptor ``[D]`` or index of each image at each ratio.
        high: ``[N, D]``, unit-norm descriptors of the images at full size.

    Raises:
        ValueError: If the shapes are inconsistent.
    """

    ratios: Sequence[float]
    low: Tensor
    high: Tensor

    def __post_init__(self) -> None:
        if self.low.shape[:2] != (len(self.ratios), len(self.high)):
            low, high = tuple(self.low.shape), tuple(self.high.shape)
            raise ValueError(
                f"{len(self.ratios)} ratios, low {low} and high {high} do not match [R], [R, N, …] and [N, D]."
            )

    def at_ratio(self, ratio: float) -> "DescriptorPairs":
        """Pairs at one of ``ratios``."""
        index = list(self.ratios).index(ratio)
        return DescriptorPairs([ratio], self.low[index : index + 1], self.high)

    def split(self, fraction: float) -> tuple["DescriptorPairs", "DescriptorPairs"]:
        """Pairs of the first ``fraction`` of the images, and of the rest."""
        size = round(fraction * len(self.high))
        first, rest = (
            DescriptorPairs(self.ratios, self.low[:, part], self.high[part])
            for part in (slice(size), slice(size, None))
        )
        return first, rest


@dataclass(frozen=True)
class DescriptorPairLoader:
    """Endless random batches of pairs; images and ratios are sampled uniformly.

    Batch k is a function of (seed, k, rank), so the state of the loader is one number.

    Attributes:
        pairs: Pairs to sample from.
        batch_size: B, pairs per batch.
        seed: Seed of the sampling.
    """

    pairs: DescriptorPairs
    batch_size: int
    seed: int = 0

    def iter_from(
        self, step: int, rank: int = 0, world_size: int = 1
    ) -> Iterator[tuple[tuple[Tensor, Tensor], Tensor]]:
        """Iterate endlessly over batches ``step``, ``step + 1``, …: ``((low [B, …], ratio [B]), high [B, D])``."""
        ratios = torch.tensor([float(ratio) for ratio in self.pairs.ratios])
        while True:
            generator = torch.Generator().manual_seed(hash((self.seed, step, rank)) % 2**63)
            r = torch.randint(len(ratios), (self.batch_size,), generator=generator)
            i = torch.randint(len(self.pairs.high), (self.batch_size,), generator=generator)
            yield (self.pairs.low[r, i], ratios[r]), self.pairs.high[i]
            step += 1
