"""The columns of a matrix of vectors that can be among those with the highest products with queries."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

if TYPE_CHECKING:
    from numpy.typing import NDArray

MARGIN = 1e-5
"""Scores of float32 products that are this close are compared in float64; the error of unit vectors is smaller."""
BLOCK_SCORES = 1 << 22
"""Scores of one matrix product: few enough to stay in the processor's cache until they are compared."""
MIN_BLOCK = 8192
SET_SIZE = 64
MAX_PENDING = 1 << 20


class ScoredPairs(NamedTuple):
    """Pairs of a query and a vector, by their numbers, with the score of each; all ``[P]``."""

    query: "NDArray[np.int64]"
    vector: "NDArray[np.int64]"
    score: "NDArray[np.float32]"

    @classmethod
    def empty(cls) -> "ScoredPairs":
        """Return no pairs."""
        return cls(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32))

    @classmethod
    def join(cls, parts: "Iterable[ScoredPairs]") -> "ScoredPairs":
        """Return the pairs of all ``parts``."""
        query, vector, score = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        return cls(query, vector, score)

    def select(self, index: "NDArray[np.int64 | np.bool_]") -> "ScoredPairs":
        """Return the pairs at ``index``, positions or a mask."""
        return ScoredPairs(self.query[index], self.vector[index], self.score[index])

    def best(self, k: int) -> "ScoredPairs":
        """Return the ``k`` best pairs of each query, by query, best first; those of equal scores by vector."""
        pairs = self.select(np.lexsort((self.vector, -self.score, self.query)))
        rank = np.arange(len(pairs.query)) - np.searchsorted(pairs.query, pairs.query)
        return pairs.select(rank < k)

    def raise_floor(self, floor: "NDArray[np.float32]", k: int) -> "NDArray[np.float32]":
        """Return ``floor [Q]``, or for each query the ``k``-th best score less `MARGIN` if that is higher."""
        order = np.argsort(4.0 * self.query - self.score)  # by query, then best first: scores are in -1 … 1
        counts, floor = np.bincount(self.query, minlength=len(floor)), floor.copy()
        has_k = counts >= k
        scores = self.score[order[(np.cumsum(counts) - counts + k - 1)[has_k]]]
        floor[has_k] = np.maximum(floor[has_k], scores - MARGIN)
        return floor


def find_candidates(
    queries: "NDArray[np.float32]", vectors: "NDArray[np.float32]", k: int, floor: "NDArray[np.float32]"
) -> ScoredPairs:
    """Return each of ``queries [Q, D]`` with the columns of ``vectors [D, N]`` whose products are the ``k`` highest, or may be equal to the
    last of them; without those below ``floor [Q]``.

    The products are computed in blocks. What is below the k-th best score so far is no candidate, so that later blocks have few. NumPy's
    OpenBLAS is faster than PyTorch's MKL on many processors.
    """
    size = max(MIN_BLOCK, BLOCK_SCORES // max(1, len(queries)) // SET_SIZE * SET_SIZE)
    memory = np.empty((len(queries), min(size, vectors.shape[1])), np.float32)
    pending, limit = [ScoredPairs.empty()], MAX_PENDING
    for number, start in enumerate(range(0, vectors.shape[1], size)):
        block = memory[:, : vectors.shape[1] - start]
        np.matmul(queries, vectors[:, start : start + size], out=block)
        new, floor = _compare_block(block, k, floor, is_first=not number)
        pending.append(new._replace(vector=new.vector + start))
        if (number > 1 and number & (number - 1) == 0) or sum(len(part.query) for part in pending) > limit:
            pairs, floor = _drop_low(pending, k, floor)
            pending, limit = [pairs], max(MAX_PENDING, 2 * len(pairs.query))
    return _drop_low(pending, k, floor)[0]


def _drop_low(
    parts: list[ScoredPairs], k: int, floor: "NDArray[np.float32]"
) -> tuple[ScoredPairs, "NDArray[np.float32]"]:
    """Join the pairs, and drop those below the k-th best of their query; return them with the floor raised to it."""
    pairs = ScoredPairs.join(parts)
    floor = pairs.raise_floor(floor, k)
    return pairs.select(pairs.score >= floor[pairs.query]), floor


def _compare_block(
    scores: "NDArray[np.float32]", k: int, floor: "NDArray[np.float32]", is_first: bool
) -> tuple[ScoredPairs, "NDArray[np.float32]"]:
    """Return the entries of ``scores [Q, N]`` that are not below ``floor [Q]``, and ``floor``, raised if the block ``is_first``.

    Sets of `SET_SIZE` columns are compared by their maxima, which reads the scores once. The k-th highest maximum is not above the k-th
    highest score.
    """
    num_sets = scores.shape[1] // SET_SIZE
    sets = scores[:, : num_sets * SET_SIZE].reshape(len(scores), num_sets, SET_SIZE)
    maxima = torch.from_numpy(sets).amax(dim=2).numpy()
    if is_first and (bounds := maxima if num_sets >= k else scores).shape[1] >= k:
        floor = np.maximum(floor, np.partition(bounds, -k, axis=1)[:, -k] - MARGIN)
    query, number = _nonzero(maxima >= floor[:, None])
    values = sets[query, number]
    hit, place = _nonzero(values >= floor[query, None])
    inside = ScoredPairs(query[hit], number[hit] * SET_SIZE + place, values[hit, place])
    query, column = _nonzero(scores[:, num_sets * SET_SIZE :] >= floor[:, None])
    column += num_sets * SET_SIZE
    return ScoredPairs.join([inside, ScoredPairs(query, column, scores[query, column])]), floor


def _nonzero(mask: "NDArray[np.bool_]") -> tuple["NDArray[np.int64]", "NDArray[np.int64]"]:
    """Return the row and column numbers of the true entries of ``mask [R, C]``; faster than `numpy.nonzero`."""
    return np.divmod(np.flatnonzero(mask), max(1, mask.shape[1]))
