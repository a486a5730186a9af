"""Checks of vectors that are compared by their cosine."""

from torch import Tensor

TOLERANCE = 1e-2
"""Largest deviation of the length from 1, that of 16-bit floats."""


def check_unit_vectors(vectors: Tensor, what: str) -> Tensor:
    """Return ``vectors [N, D]`` as float32 on the CPU; zeros, which have no direction, may be among them.

    Args:
        vectors: Vectors of any type of numbers.
        what: Name of a vector in error messages, such as "Query".

    Raises:
        ValueError: If a vector is not finite, or its length is neither 1 nor 0; the first one is named.
    """
    values = vectors.detach().cpu().float()
    lengths = values.norm(dim=1)
    wrong = ~(((lengths - 1).abs() <= TOLERANCE) | (lengths == 0))
    if wrong.any():
        index = int(wrong.nonzero()[0])
        raise ValueError(
            f"{what} {index} has length {lengths[index]:.4g}, and {int(wrong.sum()) - 1} more are no unit vectors. "
            "Cosines need unit vectors: torch.nn.functional.normalize(vectors, dim=1)."
        )
    return values.contiguous()


def exact_cosines(queries: Tensor, vectors: Tensor) -> Tensor:
    """Return the cosines ``[Q, M]`` of ``queries [Q, D]`` with M vectors each, ``vectors [Q, M, D]``.

    They depend on the two vectors alone. A product of matrices adds in an order that depends on a vector's place in it, so
    that equal vectors get different scores; so would a sum over another layout of the memory.
    """
    return (vectors.contiguous().double() * queries[:, None].double()).sum(dim=-1).float()


def sort_best_first(scores: Tensor, rows: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return the ``k`` highest of ``scores [Q, M]`` and their ``rows``, ``[Q, k]``, best first; equal scores by row."""
    by_row = rows.argsort(dim=1, stable=True)
    order = scores.gather(1, by_row).argsort(dim=1, descending=True, stable=True)[:, :k]
    order = by_row.gather(1, order)
    return scores.gather(1, order), rows.gather(1, order)
