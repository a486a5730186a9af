"""How well a ranking finds what it should: the average precision of the landmark benchmarks, and the papers' curves.

The precision here is the *trapezoid* one of Oxford5k, Paris6k, Holidays and the revisited sets, which are one and the
same function. The rectangular rule of general libraries is up to 0.25 higher; numbers of the two kinds must not stand
in one table.
"""

import io
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

import torch
from torch import Tensor


class Relevance(Protocol):
    """What a query should find: rows of the database that are right, and rows that are neither right nor wrong."""

    @property
    def positives(self) -> Collection[int]:
        """Rows of the database that show the same thing."""
        ...

    @property
    def junk(self) -> Collection[int]:
        """Rows that are taken out of the ranking before anything is counted."""
        ...


def positive_ranks(ranking: Sequence[int], positives: Collection[int], junk: Collection[int] = ()) -> list[int]:
    """The places, from 0, of ``positives`` in ``ranking`` (rows of the database, best first) after ``junk`` is taken
    out of it.
    """
    right, ignored = set(positives), set(junk)
    kept = [row for row in ranking if row not in ignored]
    return [place for place, row in enumerate(kept) if row in right]


def trapezoid_average_precision(ranks: Sequence[int], num_positives: int) -> float:
    """Area under precision over recall by the trapezoid rule, 0…1.

    Args:
        ranks: places of the positives that were found, from 0, rising; a ranking that was cut short lowers the result.
        num_positives: how many there are in all.

    Raises:
        ValueError: if there is nothing to find, or more was found than there is.
    """
    if num_positives < max(1, len(ranks)):
        raise ValueError(
            f"{len(ranks)} found of {num_positives} positives: a query needs one, and finds no more than there are."
        )
    area = 0.0
    for found, rank in enumerate(ranks):
        before = found / rank if rank else 1.0
        area += (before + (found + 1) / (rank + 1)) / 2
    return area / num_positives


def query_average_precisions(queries: Tensor, database: Tensor, relevance: Sequence[Relevance]) -> list[float]:
    """The average precision of each query: unit vectors ``[Q, D]`` against ``[N, D]``, whole database ranked by cosine.

    Raises:
        ValueError: if a query has no positive. Which are left out is the protocol's choice; see
            :mod:`featlift.data.landmarks`.
    """
    if len(queries) != len(relevance):
        raise ValueError(f"{len(queries)} descriptors for {len(relevance)} queries.")
    return [
        _query_average_precision(database @ query, wanted) for query, wanted in zip(queries, relevance, strict=True)
    ]


def _query_average_precision(scores: Tensor, relevance: Relevance) -> float:
    ranking = scores.argsort(descending=True, stable=True).tolist()
    return trapezoid_average_precision(
        positive_ranks(ranking, relevance.positives, relevance.junk),
        len(set(relevance.positives) - set(relevance.junk)),
    )


def mean_average_precision(queries: Tensor, database: Tensor, relevance: Sequence[Relevance]) -> float:
    """mAP, 0…1: the mean of :func:`query_average_precisions`."""
    values = query_average_precisions(queries, database, relevance)
    return sum(values) / len(values)


def map_by_ratio(
    queries: Mapping[float, Tensor], database: Tensor, relevance: Sequence[Relevance]
) -> dict[float, float]:
    """mAP at each ratio (FSR-GAN, Figs. 2b and 6): ``queries`` maps the ratio per side to descriptors ``[Q, D]``; the
    database stays sharp.
    """
    return {ratio: mean_average_precision(at, database, relevance) for ratio, at in queries.items()}


def map_by_num_distractors(
    queries: Tensor, database: Tensor, distractors: Tensor, relevance: Sequence[Relevance], counts: Sequence[int]
) -> dict[int, float]:
    """mAP with the first ``n`` of ``distractors [M, D]`` behind the database, for each ``n`` of ``counts`` (FSR-GAN,
    Fig. 7).

    Raises:
        ValueError: if a size is larger than the number of distractors.
    """
    if max(counts) > len(distractors):
        raise ValueError(f"{max(counts)} distractors asked for, {len(distractors)} given.")
    return {n: mean_average_precision(queries, torch.cat([database, distractors[:n]]), relevance) for n in counts}


def distance_by_ratio(generated: Mapping[float, Tensor], high: Tensor) -> dict[float, tuple[float, float]]:
    """Ratio → (mean, variance) of the Euclidean distance to the sharp descriptors ``high [N, D]`` (Fig. 5 and Table
    1).
    """
    apart = {ratio: (at - high).norm(dim=1) for ratio, at in generated.items()}
    return {ratio: (d.mean().item(), d.var(unbiased=False).item()) for ratio, d in apart.items()}


def png_bits(image: Tensor) -> int:
    """Bits of ``image [3, H, W]`` (0…1) as a PNG file: what a phone would have to send (FSR-GAN, Sec. 5.4)."""
    from torchvision.transforms.v2.functional import to_pil_image

    with io.BytesIO() as file:
        to_pil_image(image.clamp(0, 1)).save(file, format="png")
        return 8 * file.tell()


def classify_ap_changes(
    before: Sequence[float], after: Sequence[float], min_change: float = 0.01
) -> dict[str, list[int]]:
    """Which queries gained, lost, or kept their average precision, by more than ``min_change``; the gainers with the largest
    gain first.
    """
    change = [b - a for a, b in zip(before, after, strict=True)]
    by_change = sorted(range(len(change)), key=lambda i: change[i], reverse=True)
    return {
        "gained": [i for i in by_change if change[i] > min_change],
        "lost": [i for i in reversed(by_change) if change[i] < -min_change],
        "kept": [i for i in range(len(change)) if abs(change[i]) <= min_change],
    }


MethodKey = TypeVar("MethodKey")


def select_within_one_standard_error(average_precisions: Mapping[MethodKey, Tensor]) -> list[MethodKey]:
    """Way → precision of each query ``[Q]``; those behind the best by no more than the standard error of the difference, the best first.

    The difference is taken query by query, so what makes a query hard for all ways does not count.
    """
    ways = sorted(average_precisions, key=lambda way: average_precisions[way].mean().item(), reverse=True)
    behind = {way: average_precisions[ways[0]] - average_precisions[way] for way in ways}
    return [way for way, gap in behind.items() if gap.mean() <= gap.std() / len(gap) ** 0.5]


def plot_seed_curves(
    curves: Mapping[str, Mapping[float, Sequence[float]]], path: Path, xlabel: str, ylabel: str
) -> None:
    """A picture (PNG, SVG; by the file's ending) of several curves: name → place on the x axis → values, one for each
    seed.

    Lines join the means, bands reach from the least to the greatest value. ``xlabel`` and ``ylabel`` are the names of the
    axes.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.6, 4.2), layout="constrained")
    axes = figure.add_subplot()
    for number, (name, curve) in enumerate(curves.items()):
        xs, lap = sorted(curve), number // 10 % 3
        means, marker, style = [sum(curve[x]) / len(curve[x]) for x in xs], "os^"[lap], ("-", "--", ":")[lap]
        (line,) = axes.plot(xs, means, marker=marker, linestyle=style, markersize=3.5, label=name)
        axes.fill_between(
            xs, [min(curve[x]) for x in xs], [max(curve[x]) for x in xs], alpha=0.15, color=line.get_color()
        )
    axes.set(xlabel=xlabel, ylabel=ylabel)
    axes.grid(alpha=0.3)
    figure.legend(frameon=False, fontsize="small", loc="outside right upper")
    figure.savefig(path, dpi=120)
