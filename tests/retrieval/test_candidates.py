"""Candidates of the highest products compared with all products, sorted."""

import numpy as np
import pytest

from featlift.retrieval import candidates
from featlift.retrieval.candidates import MARGIN, ScoredPairs, find_candidates


def unit_vectors(n, dimension, seed):
    vectors = np.random.default_rng(seed).standard_normal((n, dimension)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.mark.parametrize("order", ["any", "ascending", "descending"])
@pytest.mark.parametrize("block", [64, 130, 8192])
def test_are_all_that_may_be_among_the_best(monkeypatch, order, block):
    """Also if every block is better than those before, and with few pairs in memory."""
    monkeypatch.setattr(candidates, "MIN_BLOCK", block)
    monkeypatch.setattr(candidates, "BLOCK_SCORES", 1)
    monkeypatch.setattr(candidates, "MAX_PENDING", 50)
    queries, vectors = unit_vectors(3, 8, 0), unit_vectors(1003, 8, 1)
    if order != "any":
        vectors = vectors[np.argsort(vectors @ queries[0] * (1 if order == "ascending" else -1))]
    vectors[900:903] = vectors[17]
    products = queries.astype(np.float64) @ vectors.T.astype(np.float64)
    for k in (1, 5, 200, 1003, 2000):
        floor = np.full(3, -np.inf, np.float32)
        pairs = find_candidates(queries, vectors.T, k, floor)
        last = np.sort(products, axis=1)[:, ::-1][:, min(k, 1003) - 1]
        for query in range(3):
            found = set(pairs.vector[pairs.query == query].tolist())
            assert len(found) == (pairs.query == query).sum()
            assert found >= set(np.flatnonzero(products[query] >= last[query] - 1e-7).tolist())
            assert found <= set(np.flatnonzero(products[query] >= last[query] - 2 * MARGIN).tolist())


def test_nothing_below_the_floor_is_returned():
    queries, vectors = unit_vectors(2, 8, 0), unit_vectors(500, 8, 1)
    products = queries @ vectors.T
    floor = np.array([products[0].max() - 1e-3, 2.0], np.float32)
    pairs = find_candidates(queries, vectors.T, 10, floor)
    assert pairs.query.tolist() == [0]
    assert pairs.vector.tolist() == [products[0].argmax()]


def test_the_best_of_each_query():
    pairs = ScoredPairs(
        np.array([1, 0, 1, 1, 0]), np.array([7, 3, 5, 4, 2]), np.array([0.5, 0.1, 0.5, 0.9, 0.1], np.float32)
    )
    assert pairs.best(2).vector.tolist() == [2, 3, 4, 5]  # equal scores by vector
    floor = pairs.raise_floor(np.array([-np.inf, 0.7, 0.3], np.float32), 2)
    np.testing.assert_allclose(floor, [0.1 - MARGIN, 0.7, 0.3])


@pytest.mark.parametrize(("num_queries", "num_vectors"), [(0, 5), (2, 0), (2, 1), (1, 64), (3, 65)])
def test_few_or_none(num_queries, num_vectors):
    queries, vectors = unit_vectors(num_queries, 8, 0), unit_vectors(num_vectors, 8, 1)
    pairs = find_candidates(queries, vectors.T, 100, np.full(num_queries, -np.inf, np.float32))
    assert len(pairs.query) == num_queries * num_vectors
    np.testing.assert_allclose(pairs.score, (queries @ vectors.T)[pairs.query, pairs.vector], atol=1e-6)
