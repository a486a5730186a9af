"""Random numbers that are identical on every machine and with every NumPy version."""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T")


class PortableRNG:
    """Random integers from the raw bits of PCG64, determined by ``key`` (non-negative integers).

    NumPy guarantees the streams of ``SeedSequence`` and of the bit generators across versions, but not those of
    ``Generator``, whose normal and exponential variates also depend on the C library (NEP 19).
    """

    def __init__(self, *key: int) -> None:
        self._bits = np.random.PCG64(np.random.SeedSequence(key))

    def randint(self, low: int, high: int) -> int:
        """Uniform integer in ``low`` … ``high``, both included."""
        return low + ((int(self._bits.random_raw()) >> 32) * (high - low + 1) >> 32)

    def randint_array(self, low: int, high: int, *shape: int) -> NDArray[np.int32]:
        """Array of ``shape`` of uniform integers in ``low`` … ``high``, both included; ``high - low`` is at most 255."""
        count = int(np.prod(shape))
        raw = np.asarray(self._bits.random_raw(-(-count // 8)), dtype="<u8").view(np.uint8)[:count]
        return (low + (raw.astype(np.int32) * (high - low + 1) >> 8)).reshape(shape)

    def choice(self, options: Sequence[T]) -> T:
        """Uniformly random element of ``options``."""
        return options[self.randint(0, len(options) - 1)]

    def chance(self, percent: int) -> bool:
        """True with a probability of ``percent`` per cent."""
        return self.randint(1, 100) <= percent

    def log_uniform(self, low: int, high: int) -> int:
        """Integer in ``low`` … ``high``, both included, with a probability proportional to its reciprocal."""
        cumulative = np.cumsum((1 << 40) // np.arange(low, high + 1, dtype=np.int64))
        value = (int(self._bits.random_raw()) >> 32) * int(cumulative[-1]) >> 32
        return low + int(np.searchsorted(cumulative, value, side="right"))
