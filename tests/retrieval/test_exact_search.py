"""Exact search compared with a single matrix product."""

import pytest
import torch
import torch.nn.functional as nnf

from featlift.retrieval.exact_search import exact_search
from featlift.retrieval.vector_store import VectorStore


def units(n, dimension=8, seed=0):
    return nnf.normalize(torch.randn(n, dimension, generator=torch.Generator().manual_seed(seed)), dim=1)


@pytest.fixture
def store(tmp_path):
    store = VectorStore(tmp_path, 8)
    vectors = units(50)
    for low in range(0, 50, 17):
        store.add([f"n{i}" for i in range(low, min(50, low + 17))], vectors[low : low + 17])
    return store


@pytest.mark.parametrize("batch_size", [3, 17, 1000])
def test_is_the_whole_ranking(store, batch_size):
    queries = units(4, seed=1)
    results = exact_search(store, queries, 50, batch_size)
    expected = (queries @ units(50).T).sort(dim=1, descending=True)
    assert torch.equal(results.rows, expected.indices)
    torch.testing.assert_close(results.scores, expected.values)
    assert results.names[2][0] == f"n{expected.indices[2, 0]}"
    assert torch.equal(exact_search(store, queries, 5, batch_size).rows, expected.indices[:, :5])


def test_removed_vectors_are_never_found(store):
    (best,) = exact_search(store, units(50)[7:8], 1).names
    assert best == ["n7"]
    store.remove(["n7"])
    results = exact_search(store, units(50)[7:8], 100)
    assert "n7" not in results.names[0]
    assert results.rows.shape == (1, 49)
    assert results.scores.isfinite().all()


def test_errors(store, tmp_path):
    with pytest.raises(ValueError, match=r"\[Q, 8\]"):
        exact_search(store, units(2, 7), 3)
    with pytest.raises(ValueError, match="empty"):
        exact_search(VectorStore(tmp_path / "new", 8), units(2), 3)
