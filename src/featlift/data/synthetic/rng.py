"""Random numbers that are the same on every machine and with every version of NumPy."""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T")


class PortableRNG:
    """Whole numbers drawn from the raw bits of PCG64.

    NumPy keeps ``SeedSequence`` and the raw stream of a bit generator for ever, but not the methods of ``Generator``,
    and its normal or exponential numbers depend on the C library (NEP 19). Two dice with the same ``key`` (whole
    numbers ≥ 0) throw the same.
    """

    def __init__(self, *key: int) -> None:
        self._bits = np.random.PCG64(np.random.SeedSequence(key))

    def randint(self, low: int, high: int) -> int:
        """A number from ``low`` to ``high``, both included."""
        return low + ((int(self._bits.random_raw()) >> 32) * (high - low + 1) >> 32)

    def randint_array(self, low: int, high: int, *shape: int) -> NDArray[np.int32]:
        """An array of ``shape`` of numbers from ``low`` to ``high``, both included; ``high - low`` at most 255."""
        count = int(np.prod(shape))
        raw = np.asarray(self._bits.random_raw(-(-count // 8)), dtype="<u8").view(np.uint8)[:count]
        return (low + (raw.astype(np.int32) * (high - low + 1) >> 8)).reshape(shape)

    def choice(self, options: Sequence[T]) -> T:
        """One of ``options``."""
        return options[self.randint(0, len(options) - 1)]

    def chance(self, percent: int) -> bool:
        """True in ``percent`` of 100 throws."""
        return self.randint(1, 100) <= percent

    def log_uniform(self, low: int, high: int) -> int:
        """A number from ``low`` to ``high``, both included, each with a probability in proportion to 1/number."""
        steps = np.cumsum((1 << 40) // np.arange(low, high + 1, dtype=np.int64))
        throw = (int(self._bits.random_raw()) >> 32) * int(steps[-1]) >> 32
        return low + int(np.searchsorted(steps, throw, side="right"))
