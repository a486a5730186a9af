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
from featlift.data.dataset import Example, Pictures, without_crowds
from featlift.resolution import Target

Batch = tuple[list[Tensor], list[Target]]
Draw = tuple[int, int]
"""Which picture, and the seed of its augmentations."""


class Batches:
    """Endless batches of ``size`` pictures; batch ``k`` is a function of ``(seed, k)`` alone, augmentations included.

    A position in training is therefore one number, and `since` goes on from there as if nothing had happened. An
    epoch shows every picture at least once; the pictures that fill its last batch are drawn from the same epoch.
    Crowd regions are left out of the targets.

    Args:
        dataset: obeys `featlift.data.dataset.Pictures`.
        size: pictures per batch, over all processes together.
        seed: a whole number ≥ 0.
        augment: callables ``(image, target, generator) → (image, target)``, applied in order; see
        `featlift.data.augment`. group: put pictures that are wide and pictures that are tall into different batches
        (less padding). weights: how often each picture is shown, relative to the others: in an epoch about
        ``len(dataset)·wᵢ/Σw`` times,
            rounded down or up. See `repeat_factors`.
        workers: processes that read pictures; 0 reads them in this one. The batches are the same.

    Raises:
        ValueError: if the dataset is empty, ``size`` is under 1, or ``weights`` do not fit.
    """

    def __init__(
        self,
        dataset: Pictures,
        size: int,
        seed: int = 0,
        augment: Sequence[Augmentation] = (),
        group: bool = True,
        weights: Sequence[float] | None = None,
        workers: int = 0,
    ) -> None:
        if not len(dataset):
            raise ValueError("The dataset is empty: there is nothing to make batches of.")
        if size < 1:
            raise ValueError(f"size is {size}; a batch has at least one picture.")
        self.size, self.workers = size, workers
        self._pictures = _Drawn(dataset, augment)
        self._order = _Order(_shapes(dataset, group), size, seed, _expected(weights, len(dataset)))

    @property
    def per_epoch(self) -> int:
        """Batches in which every picture is shown at least once (without ``weights``)."""
        return self._order.per_epoch

    def since(self, step: int, rank: int = 0, world: int = 1) -> Iterator[Batch]:
        """Batches ``step``, ``step + 1``, … without end: lists of images ``[3, H, W]`` and their targets.

        Of ``world`` processes, the one with ``rank`` gets its share: the shares in order of rank are the batch of a
        single process.

        Raises:
            ValueError: if the batch cannot be divided by ``world``.
        """
        if self.size % world:
            raise ValueError(
                f"A batch of {self.size} pictures cannot be shared by {world} processes; choose a multiple of {world}."
            )
        share = self.size // world
        draws = (self._order.batch(k)[rank * share : (rank + 1) * share] for k in count(step))
        return iter(_loader(self._pictures, draws, self.workers))


def once(
    dataset: Pictures, size: int = 1, rank: int = 0, world: int = 1, workers: int = 0
) -> Iterator[tuple[list[int], list[Tensor], list[Target]]]:
    """Every picture once, in order: ``(indices, images, targets)`` of at most ``size``. For evaluation: crowds stay,
    nothing is changed.

    Of ``world`` processes each gets every ``world``-th picture, none twice.
    """
    indices = list(range(rank, len(dataset), world))
    chunks = [indices[k : k + size] for k in range(0, len(indices), size)]
    loader = _loader(_AsItIs(dataset), iter(chunks), workers)
    for chunk, (images, targets) in zip(chunks, loader, strict=True):
        yield chunk, images, targets


def repeat_factors(dataset: Pictures, threshold: float = 0.1) -> list[float]:
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


class _Order:
    """Which pictures batch ``k`` has, and with which seeds."""

    def __init__(self, shapes: NDArray[np.bool_], size: int, seed: int, expected: NDArray[np.float64]) -> None:
        self._shapes, self._size, self._seed, self._expected = shapes, size, seed, expected
        self.per_epoch = -(-len(shapes) // size)
        self._epoch = lru_cache(maxsize=2)(self._shuffled)

    def batch(self, k: int) -> list[Draw]:
        epoch, place = divmod(k, self.per_epoch)
        seeds = np.random.SeedSequence((self._seed, 1, k)).generate_state(self._size, np.uint64) >> np.uint64(1)
        return list(zip(self._epoch(epoch)[place].tolist(), seeds.tolist(), strict=True))

    def _shuffled(self, epoch: int) -> NDArray[np.int64]:
        """The batches of an epoch, ``[per_epoch, size]``: first full ones of one shape, then what is left over; then
        shuffled.
        """
        chance = np.random.Generator(np.random.PCG64(np.random.SeedSequence((self._seed, 0, epoch))))
        order = chance.permutation(_repeated(self._expected, chance.random()))
        wide, tall = order[self._shapes[order]], order[~self._shapes[order]]
        full = [part[: len(part) - len(part) % self._size] for part in (wide, tall)]
        rest = [part[len(part) - len(part) % self._size :] for part in (wide, tall)]
        line = np.concatenate([*full, *rest])
        line = np.concatenate([line, np.resize(order, self.per_epoch * self._size - len(line))])
        return chance.permutation(line.reshape(self.per_epoch, self._size))


def _repeated(expected: NDArray[np.float64], offset: float) -> NDArray[np.int64]:
    """Each index about ``expected`` times, rounded down or up, ``len(expected)`` in all: systematic sampling at
    ``offset`` in 0…1.
    """
    ends = np.cumsum(expected)
    ends *= len(expected) / ends[-1]
    return np.searchsorted(ends, np.arange(len(expected)) + offset, side="right").clip(max=len(expected) - 1)


def _shapes(dataset: Pictures, group: bool) -> NDArray[np.bool_]:
    """True for each picture that is at least as wide as tall; all true without grouping."""
    if not group:
        return np.ones(len(dataset), dtype=bool)
    return np.array([height <= width for height, width in map(dataset.size, range(len(dataset)))])


def _expected(weights: Sequence[float] | None, length: int) -> NDArray[np.float64]:
    values = np.ones(length) if weights is None else np.asarray(weights, dtype=np.float64)
    if len(values) != length:
        raise ValueError(f"{len(values)} weights for {length} pictures; give one weight to each.")
    if not (np.isfinite(values).all() and (values >= 0).all() and values.any()):
        raise ValueError("Weights must be finite and not negative, and at least one above 0.")
    return values


class _Drawn(Dataset[Example]):
    """The dataset under (index, seed): pictures for training, without crowds, augmented."""

    def __init__(self, dataset: Pictures, augment: Sequence[Augmentation]) -> None:
        self._dataset, self._augment = dataset, tuple(augment)

    def __getitem__(self, draw: Draw) -> Example:
        index, seed = draw
        image, target = self._dataset[index]
        target, generator = without_crowds(target), torch.Generator().manual_seed(seed)
        for change in self._augment:
            image, target = change(image, target, generator)
        return image, target


class _AsItIs(Dataset[Example]):
    def __init__(self, dataset: Pictures) -> None:
        self._dataset = dataset

    def __getitem__(self, index: int) -> Example:
        return self._dataset[index]


def _loader(pictures: Dataset[Example], chunks: Iterator[Sequence[object]], workers: int) -> DataLoader[Batch]:
    """A loader with its own generator: PyTorch would otherwise draw from the global one, and a resumed run would
    differ.
    """
    return DataLoader(
        pictures,
        batch_sampler=chunks,  # type: ignore[arg-type]
        num_workers=workers,
        collate_fn=_apart,
        generator=torch.Generator().manual_seed(0),
    )


def _apart(examples: list[Example]) -> Batch:
    return [image for image, _ in examples], [target for _, target in examples]
