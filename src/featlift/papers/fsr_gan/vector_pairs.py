"""FSR-GAN on vectors that the user computed: pairs of a low- and a full-resolution vector of each image, of any encoder."""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as nnf
from torch import nn

from featlift.evaluation.retrieval import distance_by_ratio, map_by_ratio
from featlift.papers.fsr_gan.settings import Settings
from featlift.retrieval.descriptor_pairs import DescriptorPairs
from featlift.retrieval.generator import super_resolve_descriptors
from featlift.retrieval.vector_files import read_vectors


@dataclass(frozen=True)
class Relevant:
    """The rows of a database that a query should find."""

    positives: frozenset[int]
    junk: frozenset[int] = frozenset()


TRAIN_FRACTION = 0.9
"""Share of the pairs, the first ones, that are trained on; the others evaluate the generator."""


def read_vector_pairs(settings: Settings) -> tuple[DescriptorPairs, DescriptorPairs]:
    """Read the pairs of ``settings.vectors``, normalize them to unit length, and return those for training and those held out.

    Raises:
        FileNotFoundError: If a file does not exist.
        ValueError: If the shapes do not match, there are fewer than 20 pairs, or a conditioned generator has no ratios.
    """
    low_file, high_file = settings.vectors
    low, high = read_vectors(low_file), read_vectors(high_file)
    if low.ndim == 2:
        if settings.generator == "conditioned":
            raise ValueError(
                f"{low_file} is [N, D]; a conditioned generator needs [R, N, D], one row per ratio of --ratios."
            )
        low, ratios = low[None], (1.0,)
    else:
        ratios = settings.ratios
    expected = (len(ratios), *high.shape)
    if high.ndim != 2 or tuple(low.shape) != expected:
        raise ValueError(
            f"{low_file} {tuple(low.shape)} and {high_file} {tuple(high.shape)} do not match: low is [N, D] or, for the {len(ratios)} "
            "ratios, [R, N, D]; high is [N, D], in the same order."
        )
    if len(high) < 20:
        raise ValueError(f"{high_file} has {len(high)} vectors; at least 20 pairs are needed, better some hundreds.")
    pairs = DescriptorPairs(ratios, nnf.normalize(low, dim=-1), nnf.normalize(high, dim=-1))
    return pairs.split(TRAIN_FRACTION)


def evaluate_vector_pairs(generator: nn.Module, settings: Settings) -> dict[str, Any]:
    """Evaluate raw and super-resolved held-out vectors: ``"map"`` of finding one's own full-resolution vector, and ``"distance"`` to it.

    Both are ``{name: {ratio: …}}``, as of `featlift.papers.fsr_gan.evaluation.evaluate_generators`; the database is the full-resolution
    vectors of all pairs.
    """
    train_pairs, pairs = read_vector_pairs(settings)
    database, queries = (
        torch.cat([pairs.high, train_pairs.high]),
        [Relevant(frozenset({row})) for row in range(len(pairs.high))],
    )
    low = dict(zip(pairs.ratios, pairs.low, strict=True))
    fixed = {
        ratio: super_resolve_descriptors(generator, x, torch.full((len(x),), float(ratio))) for ratio, x in low.items()
    }
    by_name = {"raw": low, "super-resolved": fixed}
    return {
        "map": {name: map_by_ratio(x, database, queries) for name, x in by_name.items()},
        "distance": {name: distance_by_ratio(x, pairs.high) for name, x in by_name.items()},
        "num_held_out": len(pairs.high),
    }


def format_vector_results(results: dict[str, Any]) -> str:
    """Format one line per ratio: mAP in percent and mean distance, raw and super-resolved."""
    lines = [f"{results['num_held_out']} held-out vectors, each searched among all of full resolution"]
    for ratio in results["map"]["raw"]:
        values = (
            f"{name} mAP {100 * results['map'][name][ratio]:.1f}, distance {results['distance'][name][ratio][0]:.3f}"
            for name in results["map"]
        )
        lines.append(f"ratio {ratio:g}: " + "  ".join(values))
    return "\n".join(lines)
