"""Batches whose order and chance follow from two whole numbers, so that a run can go on anywhere, on any number of
machines.
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import count

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from featlift.data.augment import Augmentation
from featlift.data.dataset import ImageDataset, Sample, drop_crowds
from featlift.resolution import Target

DetectionBatch = tuple[list[Tensor], list[Target]]
SeededIndex = tuple[int, int]
"""Which picture, and the seed of its augmentations."""


class ResumableDataLoader:
    """Endless batches of ``batch_size`` pictures; batch ``k`` is a function of ``(seed, k)`` alone, augmentations included.

    A position in training is therefore one number, and `iter_from` goes on from there as if nothing had happened. An
    epoch shows every picture at least once; the pictures that fill its last batch are drawn from the same epoch.
    Crowd regions are left out of the targets.

    Args:
        dataset: obeys `featlift.data.dataset.ImageDataset`.
        batch_size: pictures per batch, over all processes together.
        seed: a whole number ≥ 0.
        augmentations: callables ``(image, target, generator) → (image, target)``, applied in order; see
        `featlift.data.augment`. group: put pictures that are wide and pictures that are tall into different batches
        (less padding). weights: how often each picture is shown, relative to the others: in an epoch about
        ``len(dataset)·wᵢ/Σw`` times,
            rounded down or up. See `repeat_factors`.
        num_workers: processes that read pictures; 0 reads them in this one. The batches are the same.

    Raises:
        ValueError: if the dataset is empty, ``batch_size`` is under 1, or ``image_weights`` do not fit.
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
            raise ValueError("The dataset is empty: there is nothing to make batches of.")
        if batch_size < 1:
            raise ValueError(f"size is {batch_size}; a batch has at least one picture.")
        self.batch_size, self.num_workers = batch_size, num_workers
        self._dataset = _AugmentedDataset(dataset, augmentations)
        self._sampler = _BatchSampler(
            _wide_images(dataset, group_by_aspect_ratio),
            batch_size,
            seed,
            _validated_weights(image_weights, len(dataset)),
        )

    @property
    def batches_per_epoch(self) -> int:
        """Batches in which every picture is shown at least once (without ``weights``)."""
        return self._sampler.batches_per_epoch

    def iter_from(self, step: int, rank: int = 0, world_size: int = 1) -> Iterator[DetectionBatch]:
        """Batches ``step``, ``step + 1``, … without end: lists of images ``[3, H, W]`` and their targets.

        Of ``world_size`` processes, the one with ``rank`` gets its share: the shares in order of rank are the batch of a
        single process.

        Raises:
            ValueError: if the batch cannot be divided by ``world_size``.
        """
        if self.batch_size % world_size:
            raise ValueError(
                f"A batch of {self.batch_size} pictures cannot be shared by {world_size} processes; choose a multiple of {world_size}."
            )
        share = self.batch_size // world_size
        draws = (self._sampler.batch(k)[rank * share : (rank + 1) * share] for k in count(step))
        return iter(_data_loader(self._dataset, draws, self.num_workers))


def evaluation_batches(
    dataset: ImageDataset, batch_size: int = 1, rank: int = 0, world_size: int = 1, num_workers: int = 0
) -> Iterator[tuple[list[int], list[Tensor], list[Target]]]:
    """Every picture once, in order: ``(indices, images, targets)`` of at most ``batch_size``. For evaluation: crowds stay,
    nothing is changed.

    Of ``world_size`` processes each gets every ``world_size``-th picture, none twice.
    """
    indices = list(range(rank, len(dataset), world_size))
    chunks = [indices[k : k + batch_size] for k in range(0, len(indices), batch_size)]
    loader = _data_loader(_UnchangedDataset(dataset), iter(chunks), num_workers)
    for chunk, (images, targets) in zip(chunks, loader, strict=True):
        yield chunk, images, targets


def repeat_factors(dataset: ImageDataset, threshold: float = 0.1) -> list[float]:
    """A weight per picture that shows rare classes more often, for `Batches`.

    ``max(1, √(threshold / f))`` of the picture's rarest class, where ``f`` is the share of pictures that have the class
    (Gupta et al., "LVIS", 2019, appendix B).
    """
    truth = dataset.coco()
    owned: dict[int, set[int]] = {image["id"]: set() for image in truth["images"]}
    for annotation in truth["annotations"]:
        owned[annotation["image_id"]].add(annotation["category_id"])
    share = {c["id"]: sum(c["id"] in has for has in owned.values()) / len(owned) for c in truth["categories"]}
    return [max([1.0, *((threshold / share[c]) ** 0.5 for c in owned[image["id"]])]) for image in truth["images"]]


class _BatchSampler:
    """Which pictures batch ``k`` has, and with which seeds."""

    def __init__(self, is_wide: NDArray[np.bool_], batch_size: int, seed: int, weights: NDArray[np.float64]) -> None:
        self._is_wide, self._batch_size, self._seed, self._weights = is_wide, batch_size, seed, weights
        self.batches_per_epoch = -(-len(is_wide) // batch_size)
        self._cached_epoch = lru_cache(maxsize=2)(self._shuffle_epoch)

    def batch(self, k: int) -> list[SeededIndex]:
        epoch, place = divmod(k, self.batches_per_epoch)
        seeds = np.random.SeedSequence((self._seed, 1, k)).generate_state(self._batch_size, np.uint64) >> np.uint64(1)
        return list(zip(self._cached_epoch(epoch)[place].tolist(), seeds.tolist(), strict=True))

    def _shuffle_epoch(self, epoch: int) -> NDArray[np.int64]:
        """The batches of an epoch, ``[per_epoch, size]``: first full ones of one shape, then what is left over; then
        shuffled.
        """
        chance = np.random.Generator(np.random.PCG64(np.random.SeedSequence((self._seed, 0, epoch))))
        order = chance.permutation(_systematic_sample(self._weights, chance.random()))
        wide, tall = order[self._is_wide[order]], order[~self._is_wide[order]]
        full = [part[: len(part) - len(part) % self._batch_size] for part in (wide, tall)]
        rest = [part[len(part) - len(part) % self._batch_size :] for part in (wide, tall)]
        line = np.concatenate([*full, *rest])
        line = np.concatenate([line, np.resize(order, self.batches_per_epoch * self._batch_size - len(line))])
        return chance.permutation(line.reshape(self.batches_per_epoch, self._batch_size))


def _systematic_sample(weights: NDArray[np.float64], offset: float) -> NDArray[np.int64]:
    """Each index about ``weights`` times, rounded down or up, ``len(expected)`` in all: systematic sampling at
    ``offset`` in 0…1.
    """
    ends = np.cumsum(weights)
    ends *= len(weights) / ends[-1]
    return np.searchsorted(ends, np.arange(len(weights)) + offset, side="right").clip(max=len(weights) - 1)


def _wide_images(dataset: ImageDataset, group_by_aspect_ratio: bool) -> NDArray[np.bool_]:
    """True for each picture that is at least as wide as tall; all true without grouping."""
    if not group_by_aspect_ratio:
        return np.ones(len(dataset), dtype=bool)
    return np.array([height <= width for height, width in map(dataset.image_size, range(len(dataset)))])


def _validated_weights(weights: Sequence[float] | None, length: int) -> NDArray[np.float64]:
    values = np.ones(length) if weights is None else np.asarray(weights, dtype=np.float64)
    if len(values) != length:
        raise ValueError(f"{len(values)} weights for {length} pictures; give one weight to each.")
    if not (np.isfinite(values).all() and (values >= 0).all() and values.any()):
        raise ValueError("Weights must be finite and not negative, and at least one above 0.")
    return values


class _AugmentedDataset(Dataset[Sample]):
    """The dataset under (index, seed): pictures for training, without crowds, augmented."""

    def __init__(self, dataset: ImageDataset, augmentations: Sequence[Augmentation]) -> None:
        self._dataset, self._augmentations = dataset, tuple(augmentations)

    def __getitem__(self, draw: SeededIndex) -> Sample:
        index, seed = draw
        image, target = self._dataset[index]
        target, generator = drop_crowds(target), torch.Generator().manual_seed(seed)
        for change in self._augmentations:
            image, target = change(image, target, generator)
        return image, target


class _UnchangedDataset(Dataset[Sample]):
    def __init__(self, dataset: ImageDataset) -> None:
        self._dataset = dataset

    def __getitem__(self, index: int) -> Sample:
        return self._dataset[index]


def _data_loader(
    dataset: Dataset[Sample], batches: Iterator[Sequence[object]], num_workers: int
) -> DataLoader[DetectionBatch]:
    """A loader with its own generator: PyTorch would otherwise draw from the global one, and a resumed run would
    differ.
    """
    return DataLoader(
        dataset,
        batch_sampler=batches,  # type: ignore[arg-type]
        num_workers=num_workers,
        collate_fn=_collate,
        generator=torch.Generator().manual_seed(0),
    )


def _collate(examples: list[Sample]) -> DetectionBatch:
    return [image for image, _ in examples], [target for _, target in examples]
