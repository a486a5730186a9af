"""Data loaders whose batches depend only on a seed and the batch number, so a run can resume at any step and on any
number of processes.
"""

import signal
from collections.abc import Iterator, Sequence
from functools import cached_property, lru_cache
from itertools import count

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from featlift.data.augment import Augmentation
from featlift.data.dataset import ImageDataset, Sample, drop_crowds
from featlift.data.fingerprint import dataset_fingerprint
from featlift.data.ignored_regions import hide_ignored_regions
from featlift.features import Target

DetectionBatch = tuple[list[Tensor], list[Target]]
SeededIndex = tuple[int, int]
"""Image index and the seed of its augmentations."""


class ResumableDataLoader:
    """Endless batches of ``batch_size`` images; batch ``k``, augmentations included, is a function of ``(seed, k)``.

    The state of the loader is therefore one number, and `iter_from` resumes from it exactly. Without weights an epoch
    contains every image at least once; its last batch is filled with images of the same epoch. Crowd regions are
    removed from the targets, and ignored regions hidden.

    Args:
        dataset: Images and targets; implements `featlift.data.dataset.ImageDataset`.
        batch_size: Images per batch, summed over all processes.
        seed: Non-negative integer.
        augmentations: Callables ``(image, target, generator) → (image, target)``, applied in order; see
            `featlift.data.augment`.
        group_by_aspect_ratio: Put wide and tall images into different batches, which reduces padding.
        image_weights: Relative sampling frequency of each image: about ``len(dataset)·wᵢ/Σw`` times per epoch, rounded
            down or up.
        num_workers: Worker processes that read images; 0 reads in the main process. The batches do not depend on it.

    Raises:
        ValueError: If the dataset is empty, ``batch_size`` is below 1, or ``image_weights`` are invalid.
    """

    def __init__(
        self,
        dataset: ImageDataset,
        batch_size: int,
        seed: int = 0,
        augmentations: Sequence[Augmentation] = (),
        group_by_aspect_ratio: bool = True,
        image_weights: Sequence[float] | None = None,
        num_workers: int = 0,
    ) -> None:
        if not len(dataset):
            raise ValueError("The dataset is empty; a data loader needs at least one image.")
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}; a batch has at least one image.")
        self.batch_size, self.num_workers = batch_size, num_workers
        self._images = dataset
        self._dataset = _AugmentedDataset(dataset, augmentations)
        self._sampler = _BatchSampler(
            _wide_images(dataset, group_by_aspect_ratio),
            batch_size,
            seed,
            _validated_weights(image_weights, len(dataset)),
        )

    @cached_property
    def fingerprint(self) -> str:
        """Fingerprint of the dataset; a training that is resumed with another one is refused."""
        return dataset_fingerprint(self._images)

    @property
    def batches_per_epoch(self) -> int:
        """Batches in an epoch, which contains every image at least once (without ``image_weights``)."""
        return self._sampler.batches_per_epoch

    def iter_from(self, step: int, rank: int = 0, world_size: int = 1) -> Iterator[DetectionBatch]:
        """Iterate endlessly over batches ``step``, ``step + 1``, …: lists of images ``[3, H, W]`` and their targets.

        Each of ``world_size`` processes gets its part of the batch; the parts in order of ``rank`` are the batch of a
        single process.

        Raises:
            ValueError: If ``batch_size`` is not divisible by ``world_size``.
        """
        if self.batch_size % world_size:
            raise ValueError(
                f"A batch of {self.batch_size} images cannot be divided among {world_size} processes; choose a multiple of {world_size}."
            )
        local_size = self.batch_size // world_size
        batches = (self._sampler.batch(k)[rank * local_size : (rank + 1) * local_size] for k in count(step))
        return iter(_data_loader(self._dataset, batches, self.num_workers))


class _BatchSampler:
    """Image indices and augmentation seeds of batch ``k``."""

    def __init__(self, is_wide: NDArray[np.bool_], batch_size: int, seed: int, weights: NDArray[np.float64]) -> None:
        self._is_wide, self._batch_size, self._seed, self._weights = is_wide, batch_size, seed, weights
        self.batches_per_epoch = -(-len(is_wide) // batch_size)
        self._cached_epoch = lru_cache(maxsize=2)(self._shuffle_epoch)

    def batch(self, k: int) -> list[SeededIndex]:
        epoch, position = divmod(k, self.batches_per_epoch)
        seeds = np.random.SeedSequence((self._seed, 1, k)).generate_state(self._batch_size, np.uint64) >> np.uint64(1)
        return list(zip(self._cached_epoch(epoch)[position].tolist(), seeds.tolist(), strict=True))

    def _shuffle_epoch(self, epoch: int) -> NDArray[np.int64]:
        """Image indices of an epoch, ``[batches_per_epoch, batch_size]``: batches of one aspect group, then of the
        remaining images, in random order.
        """
        rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence((self._seed, 0, epoch))))
        order = rng.permutation(_systematic_sample(self._weights, rng.random()))
        wide, tall = order[self._is_wide[order]], order[~self._is_wide[order]]
        full = [part[: len(part) - len(part) % self._batch_size] for part in (wide, tall)]
        rest = [part[len(part) - len(part) % self._batch_size :] for part in (wide, tall)]
        indices = np.concatenate([*full, *rest])
        indices = np.concatenate([indices, np.resize(order, self.batches_per_epoch * self._batch_size - len(indices))])
        return rng.permutation(indices.reshape(self.batches_per_epoch, self._batch_size))


def _systematic_sample(weights: NDArray[np.float64], offset: float) -> NDArray[np.int64]:
    """Systematic sampling at ``offset`` in 0…1: ``len(weights)`` indices, each in proportion to its weight, rounded down
    or up.
    """
    ends = np.cumsum(weights)
    ends *= len(weights) / ends[-1]
    return np.searchsorted(ends, np.arange(len(weights)) + offset, side="right").clip(max=len(weights) - 1)


def _wide_images(dataset: ImageDataset, group_by_aspect_ratio: bool) -> NDArray[np.bool_]:
    """Whether each image is at least as wide as tall, ``[N]``; all true without grouping."""
    if not group_by_aspect_ratio:
        return np.ones(len(dataset), dtype=bool)
    return np.array([height <= width for height, width in map(dataset.image_size, range(len(dataset)))])


def _validated_weights(weights: Sequence[float] | None, length: int) -> NDArray[np.float64]:
    values = np.ones(length) if weights is None else np.asarray(weights, dtype=np.float64)
    if len(values) != length:
        raise ValueError(f"{len(values)} weights for {length} images; give one weight per image.")
    if not (np.isfinite(values).all() and (values >= 0).all() and values.any()):
        raise ValueError("Weights must be finite and not negative, and at least one above 0.")
    return values


class _AugmentedDataset(Dataset[Sample]):
    """Training view of a dataset, indexed by (index, seed): augmented, without crowd regions."""

    def __init__(self, dataset: ImageDataset, augmentations: Sequence[Augmentation]) -> None:
        self._dataset, self._augmentations = dataset, tuple(augmentations)

    def __getitem__(self, seeded_index: SeededIndex) -> Sample:
        index, seed = seeded_index
        image, target = hide_ignored_regions(*self._dataset[index])
        target, generator = drop_crowds(target), torch.Generator().manual_seed(seed)
        for augment in self._augmentations:
            image, target = augment(image, target, generator)
        return image, target


def _data_loader(
    dataset: Dataset[Sample], batches: Iterator[Sequence[object]], num_workers: int
) -> DataLoader[DetectionBatch]:
    """PyTorch data loader with its own generator: draws from the global one would make a resumed run differ."""
    return DataLoader(
        dataset,
        batch_sampler=batches,  # type: ignore[arg-type]
        num_workers=num_workers,
        collate_fn=_collate,
        generator=torch.Generator().manual_seed(0),
        worker_init_fn=ignore_stop_signals,
    )


def ignore_stop_signals(worker_id: int) -> None:
    """Initialize a worker process: signals to the process group (Ctrl-C in a terminal, schedulers) are for the main
    process, which saves and then ends its workers. The second SIGTERM ends a worker that does not respond any more.
    """
    for name in ("SIGINT", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda number, frame: signal.signal(number, signal.SIG_DFL))


def _collate(samples: list[Sample]) -> DetectionBatch:
    return [image for image, _ in samples], [target for _, target in samples]
