"""Retrieval metrics: the average precision of the landmark benchmarks, and the curves of FSR-GAN.

AP is computed by the *trapezoid* rule of Oxford5k, Paris6k, Holidays and the revisited datasets, whose code is
equivalent. The rectangular rule of general libraries is up to 0.25 higher; do not mix values of both in a table.
"""

import io
from collections.abc import Collection, Mapping, Sequence
from typing import Protocol, TypeVar

import torch
from torch import Tensor


class Relevance(Protocol):
    """Ground truth of a query: the relevant rows of the database, and rows that are ignored."""

    @property
    def positives(self) -> Collection[int]:
        """Rows of the database that are relevant."""
        ...

    @property
    def junk(self) -> Collection[int]:
        """Rows that are removed from the ranking before it is evaluated."""
        ...


def positive_ranks(ranking: Sequence[int], positives: Collection[int], junk: Collection[int] = ()) -> list[int]:
    """Return the ranks, from 0, of ``positives`` in ``ranking`` (rows of the database, best first) without ``junk``."""
    positives, junk = set(positives), set(junk)
    filtered = [row for row in ranking if row not in junk]
    return [rank for rank, row in enumerate(filtered) if row in positives]


def trapezoid_average_precision(ranks: Sequence[int], num_positives: int) -> float:
    """Compute the area under the precision-recall curve by the trapezoid rule, in 0…1.

    Args:
        ranks: Ranks of the retrieved positives, from 0, ascending; a truncated ranking lowers the result.
        num_positives: Total number of positives.

    Raises:
        ValueError: If there are no positives, or fewer than ranks.
    """
    if num_positives < max(1, len(ranks)):
        raise ValueError(
            f"{len(ranks)} ranks for {num_positives} positives; a query needs at least one positive, and at most one rank for each."
        )
    area = 0.0
    for num_retrieved, rank in enumerate(ranks):
        previous_precision = num_retrieved / rank if rank else 1.0
        area += (previous_precision + (num_retrieved + 1) / (rank + 1)) / 2
    return area / num_positives


def query_average_precisions(queries: Tensor, database: Tensor, relevance: Sequence[Relevance]) -> list[float]:
    """Compute the AP of each query: the database ``[N, D]`` is ranked by cosine to the queries ``[Q, D]``, all unit vectors.

    Raises:
        ValueError: If a query has no positive (the protocol decides which queries are excluded; see
            :mod:`featlift.data.retrieval_readers`), or the lengths of ``queries`` and ``relevance`` differ.
    """
    if len(queries) != len(relevance):
        raise ValueError(f"{len(queries)} descriptors for {len(relevance)} queries; give one relevance per descriptor.")
    return [
        _query_average_precision(database @ query, query_relevance)
        for query, query_relevance in zip(queries, relevance, strict=True)
    ]


def _query_average_precision(scores: Tensor, relevance: Relevance) -> float:
    ranking = scores.argsort(descending=True, stable=True).tolist()
    return trapezoid_average_precision(
        positive_ranks(ranking, relevance.positives, relevance.junk),
        len(set(relevance.positives) - set(relevance.junk)),
    )


def mean_average_precision(queries: Tensor, database: Tensor, relevance: Sequence[Relevance]) -> float:
    """Compute mAP in 0…1, the mean of :func:`query_average_precisions`."""
    values = query_average_precisions(queries, database, relevance)
    return sum(values) / len(values)


def map_by_ratio(
    queries: Mapping[float, Tensor], database: Tensor, relevance: Sequence[Relevance]
) -> dict[float, float]:
    """Compute mAP at each downscaling ratio (FSR-GAN, Figs. 2b and 6): ``queries`` maps the ratio per side to
    descriptors ``[Q, D]``; the database has full resolution.
    """
    return {ratio: mean_average_precision(descriptors, database, relevance) for ratio, descriptors in queries.items()}


def map_by_num_distractors(
    queries: Tensor, database: Tensor, distractors: Tensor, relevance: Sequence[Relevance], counts: Sequence[int]
) -> dict[int, float]:
    """Compute mAP with the first ``n`` of ``distractors [M, D]`` added to the database, for each ``n`` of ``counts``
    (FSR-GAN, Fig. 7).

    Raises:
        ValueError: If a count exceeds the number of distractors.
    """
    if max(counts) > len(distractors):
        raise ValueError(f"{max(counts)} distractors requested, but only {len(distractors)} given.")
    return {n: mean_average_precision(queries, torch.cat([database, distractors[:n]]), relevance) for n in counts}


def distance_by_ratio(generated: Mapping[float, Tensor], high: Tensor) -> dict[float, tuple[float, float]]:
    """Compute, for each ratio, (mean, variance) of the Euclidean distance to the full-resolution descriptors ``high [N, D]``
    (FSR-GAN, Fig. 5 and Table 1).
    """
    distances = {ratio: (descriptors - high).norm(dim=1) for ratio, descriptors in generated.items()}
    return {ratio: (d.mean().item(), d.var(unbiased=False).item()) for ratio, d in distances.items()}


def similar_distances(queries: Tensor, database: Tensor, relevance: Sequence[Relevance]) -> dict[str, float]:
    """Compute the mean Euclidean distance of full-resolution queries ``[Q, D]`` to their positives, "similar", and to the other rows of
    the database ``[N, D]`` that are not ignored, "non-similar" (FSR-GAN, Fig. 5).
    """
    similar, other = [], []
    for query, truth in zip(queries, relevance, strict=True):
        distances = (database - query).norm(dim=1)
        positives = set(truth.positives) - set(truth.junk)
        similar += [distances[sorted(positives)]]
        other += [distances[[row for row in range(len(database)) if row not in positives and row not in truth.junk]]]
    return {"similar": torch.cat(similar).mean().item(), "non-similar": torch.cat(other).mean().item()}


def png_bits(image: Tensor) -> int:
    """Return the size in bits of ``image [3, H, W]`` (0…1) as a PNG file, the cost of transmission (FSR-GAN, Sec. 5.4)."""
    from torchvision.transforms.v2.functional import to_pil_image

    with io.BytesIO() as file:
        to_pil_image(image.clamp(0, 1)).save(file, format="png")
        return 8 * file.tell()


def classify_ap_changes(
    before: Sequence[float], after: Sequence[float], min_change: float = 0.01
) -> dict[str, list[int]]:
    """Group query indices by the change of their AP: ``"gained"`` or ``"lost"`` more than ``min_change``, largest change
    first, or ``"unchanged"``.
    """
    change = [b - a for a, b in zip(before, after, strict=True)]
    by_change = sorted(range(len(change)), key=lambda i: change[i], reverse=True)
    return {
        "gained": [i for i in by_change if change[i] > min_change],
        "lost": [i for i in reversed(by_change) if change[i] < -min_change],
        "unchanged": [i for i in range(len(change)) if abs(change[i]) <= min_change],
    }


MethodKey = TypeVar("MethodKey")


def select_within_one_standard_error(average_precisions: Mapping[MethodKey, Tensor]) -> list[MethodKey]:
    """Select the methods whose mAP is within one standard error of the best, best first.

    ``average_precisions`` maps methods to the AP of each query ``[Q]``. The standard error is that of the per-query difference, so
    the difficulty of a query, common to all methods, has no effect.
    """
    methods = sorted(average_precisions, key=lambda method: average_precisions[method].mean().item(), reverse=True)
    gaps = {method: average_precisions[methods[0]] - average_precisions[method] for method in methods}
    return [method for method, gap in gaps.items() if gap.mean() <= gap.std() / len(gap) ** 0.5]
