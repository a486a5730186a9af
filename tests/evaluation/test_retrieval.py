"""Trapezoid AP against published values, a literal computation of the area, and manual rankings."""

import random
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as nnf

from featlift.evaluation.retrieval import (
    classify_ap_changes,
    distance_by_ratio,
    map_by_num_distractors,
    map_by_ratio,
    mean_average_precision,
    png_bits,
    positive_ranks,
    query_average_precisions,
    select_within_one_standard_error,
    trapezoid_average_precision,
)


@pytest.mark.parametrize(
    ("ranks", "positives", "expected"),
    [
        ([0, 1, 4], 3, 0.85),
        ([1], 1, 0.25),
        ([9], 1, 0.05),
        ([0, 1], 4, 0.5),
        ([3, 7, 11], 3, 0.179113),
        ([0], 1, 1.0),
        ([], 2, 0.0),
    ],
)
def test_published_values(ranks, positives, expected):
    assert trapezoid_average_precision(ranks, positives) == pytest.approx(expected, abs=5e-7)


def walk_ap(ranking, positives):
    """The benchmark's definition: walk down the ranking, add the trapezoid between the old and the new
    precision.
    """
    area, old_recall, old_precision, found = 0.0, 0.0, 1.0, 0
    for rank, row in enumerate(ranking):
        found += row in positives
        recall, precision = found / len(positives), found / (rank + 1)
        area += (recall - old_recall) * (old_precision + precision) / 2
        old_recall, old_precision = recall, precision
    return area


@pytest.mark.parametrize("seed", range(20))
def test_random_rankings_against_the_definition(seed):
    rng = random.Random(seed)
    rows = rng.sample(range(40), 40)
    positives = set(rng.sample(range(40), rng.randint(1, 12)))
    assert trapezoid_average_precision(positive_ranks(rows, positives), len(positives)) == pytest.approx(
        walk_ap(rows, positives)
    )


def test_junk_is_removed_before_ranks_are_counted():
    assert positive_ranks([7, 3, 9, 1, 2], positives={9, 2}, junk={7, 1}) == [1, 2]
    assert positive_ranks([7, 3], positives={7}, junk={7}) == []


@pytest.mark.parametrize(("ranks", "positives"), [([], 0), ([0, 1], 1)])
def test_impossible_counts_are_rejected(ranks, positives):
    with pytest.raises(ValueError, match="positives"):
        trapezoid_average_precision(ranks, positives)


def relevance(*positives, junk=()):
    return SimpleNamespace(positives=frozenset(positives), junk=frozenset(junk))


DATABASE = torch.eye(4)
QUERIES = nnf.normalize(torch.tensor([[4.0, 3, 2, 1], [1, 2, 3, 4]]), dim=1)


def test_average_precisions_rank_the_whole_database():
    assert query_average_precisions(QUERIES, DATABASE, [relevance(0), relevance(0)]) == pytest.approx(
        [1.0, (0 + 1 / 4) / 2]
    )
    assert query_average_precisions(QUERIES, DATABASE, [relevance(1, junk=(0,)), relevance(3, 2)]) == pytest.approx(
        [1.0, 1.0]
    )
    assert mean_average_precision(QUERIES, DATABASE, [relevance(0), relevance(0)]) == pytest.approx(0.5625)
    with pytest.raises(ValueError, match="2 descriptors for 1"):
        query_average_precisions(QUERIES, DATABASE, [relevance(0)])


def test_curves():
    queries = {1.0: QUERIES, 2.0: QUERIES.flip(1)}
    assert map_by_ratio(queries, DATABASE, [relevance(0), relevance(3)]) == pytest.approx({1.0: 1.0, 2.0: 0.125})
    distractors = nnf.normalize(torch.tensor([[9.0, 9, 9, 9], [0, 0, 0, -1]]), dim=1)
    by_count = map_by_num_distractors(QUERIES, DATABASE, distractors, [relevance(0), relevance(3)], counts=[0, 1, 2])
    assert by_count == pytest.approx({0: 1.0, 1: 0.25, 2: 0.25})
    with pytest.raises(ValueError, match="3 distractors"):
        map_by_num_distractors(QUERIES, DATABASE, distractors, [relevance(0), relevance(3)], counts=[3])
    distances = distance_by_ratio({4.0: torch.tensor([[3.0, 0], [0, 5]])}, torch.zeros(2, 2))
    assert distances[4.0] == pytest.approx((4.0, 1.0))


def test_bits_of_an_image():
    noise = torch.rand(3, 40, 50)
    assert 8 * 3 * 40 * 50 * 0.95 < png_bits(noise) < 8 * 3 * 40 * 50 * 1.2  # noise does not compress
    assert png_bits(torch.zeros(3, 40, 50)) < png_bits(noise) / 10


def test_ap_changes():
    assert classify_ap_changes([0.5, 0.5, 0.5, 0.5], [0.6, 0.9, 0.1, 0.505]) == {
        "gained": [1, 0],
        "lost": [2],
        "unchanged": [3],
    }


def test_selection_within_a_standard_error_of_the_difference():
    """By hand: a gap of 0.1 on all queries is significant; (0.3, -0.1, 0.1, 0), on average 0.075 ± 0.085, is not."""
    best = torch.tensor([0.9, 0.5, 0.7, 0.6])
    worse, similar = best - 0.1, best - torch.tensor([0.3, -0.1, 0.1, 0.0])
    assert select_within_one_standard_error({"worse": worse, "similar": similar, "best": best}) == ["best", "similar"]
    assert select_within_one_standard_error({"alone": best}) == ["alone"]
