"""Exact search against one big matrix product."""

import pytest
import torch
import torch.nn.functional as nnf

from featlift.retrieval.exact_search import exact_search
from featlift.retrieval.vector_store import VectorStore


def units(n, dimension=8, seed=0):
    return nnf.normalize(torch.randn(n, dimension, generator=torch.Generator().manual_seed(seed)), dim=1)


@pytest.fixture
def store(tmp_path):
    made = VectorStore(tmp_path, 8)
    vectors = units(50)
    for low in range(0, 50, 17):
        made.add([f"n{i}" for i in range(low, min(50, low + 17))], vectors[low : low + 17])
    return made


@pytest.mark.parametrize("block", [3, 17, 1000])
def test_is_the_whole_ranking(store, block):
    queries = units(4, seed=1)
    found = exact_search(store, queries, 50, block)
    expected = (queries @ units(50).T).sort(dim=1, descending=True)
    assert torch.equal(found.rows, expected.indices)
    torch.testing.assert_close(found.scores, expected.values)
    assert found.names[2][0] == f"n{expected.indices[2, 0]}"
    assert torch.equal(exact_search(store, queries, 5, block).rows, expected.indices[:, :5])


def test_removed_vectors_are_never_found(store):
    (best,) = exact_search(store, units(50)[7:8], 1).names
    assert best == ["n7"]
    store.remove(["n7"])
    found = exact_search(store, units(50)[7:8], 100)
    assert "n7" not in found.names[0]
    assert found.rows.shape == (1, 49)
    assert found.scores.isfinite().all()


def test_refusals(store, tmp_path):
    with pytest.raises(ValueError, match=r"\[Q, 8\]"):
        exact_search(store, units(2, 7), 3)
    with pytest.raises(ValueError, match="empty"):
        exact_search(VectorStore(tmp_path / "new", 8), units(2), 3)
