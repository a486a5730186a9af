"""Exact search compared with a single matrix product."""

import pytest
import torch
import torch.nn.functional as nnf

from featlift.retrieval import candidates
from featlift.retrieval.exact_search import MemoryIndex, exact_search
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
    rows = torch.from_numpy(store.rows)
    assert torch.equal(results.rows, rows[expected.indices])
    torch.testing.assert_close(results.scores, expected.values)
    assert results.names[2][0] == f"n{expected.indices[2, 0]}"
    assert torch.equal(exact_search(store, queries, 5, batch_size).rows, rows[expected.indices[:, :5]])
    assert torch.equal(MemoryIndex(store).search(queries, 50).rows, results.rows)


def test_removed_vectors_are_never_found(store):
    (best,) = exact_search(store, units(50)[7:8], 1).names
    assert best == ["n7"]
    store.remove(["n7"])
    results = exact_search(store, units(50)[7:8], 100)
    assert "n7" not in results.names[0]
    assert results.rows.shape == (1, 49)
    assert results.scores.isfinite().all()


@pytest.mark.parametrize("batch_size", [7, 1000])
def test_equal_scores_go_by_row(tmp_path, batch_size):
    """Copies of nine vectors in random order: the rows of each group of copies ascend."""
    store, generator = VectorStore(tmp_path, 96), torch.Generator().manual_seed(1)
    vectors, order = units(9, 96), torch.randint(9, (400,), generator=generator)
    for low in range(0, 400, 150):
        store.add([f"n{i}" for i in range(low, min(400, low + 150))], vectors[order[low : low + 150]])
    queries = units(6, 96, seed=4)
    expected = torch.stack([scores[order].argsort(descending=True, stable=True) for scores in queries @ vectors.T])
    for k in (5, 120, 400):
        for results in (exact_search(store, queries, k, batch_size), MemoryIndex(store).search(queries, k)):
            assert torch.equal(results.rows, torch.from_numpy(store.rows)[expected[:, :k]])


@pytest.mark.parametrize("block", [64, 128, 2048])
def test_sets_of_columns_miss_nothing(tmp_path, monkeypatch, block):
    """Many vectors, equal ones among them, in blocks whose number of columns is no multiple of a set's."""
    monkeypatch.setattr(candidates, "MIN_BLOCK", block)
    monkeypatch.setattr(candidates, "BLOCK_SCORES", 1)
    store, generator = VectorStore(tmp_path, 16), torch.Generator().manual_seed(2)
    vectors = units(5003, 16)
    vectors[torch.randperm(5003, generator=generator)[:900]] = vectors[torch.randint(9, (900,), generator=generator)]
    store.add([str(i) for i in range(5003)], vectors)
    queries = torch.cat([units(3, 16, seed=3), vectors[:4]])
    scores = (queries.double()[:, None] * vectors.double()).sum(dim=2).float()
    expected = scores.argsort(dim=1, descending=True, stable=True)
    for k in (1, 10, 30):
        for results in (exact_search(store, queries, k), MemoryIndex(store).search(queries, k)):
            assert torch.equal(results.rows, torch.from_numpy(store.rows)[expected[:, :k]])
            assert torch.equal(results.scores, scores.gather(1, expected[:, :k]))


def test_any_type_of_numbers_is_compared_and_other_lengths_are_refused(store):
    expected = exact_search(store, units(2), 3)
    for dtype in (torch.float64, torch.float16, torch.bfloat16):
        assert exact_search(store, units(2).to(dtype), 3).names == expected.names
    with pytest.raises(ValueError, match=r"Query 1 has length 7, and 0 more .*normalize\(vectors, dim=1\)"):
        exact_search(store, units(2) * torch.tensor([[1.0], [7.0]]), 3)
    with pytest.raises(ValueError, match=r"Query 0 has length nan"):
        exact_search(store, units(2) * torch.nan, 3)


def test_conditions(store):
    results = exact_search(store, units(50)[7:8], 3, where="name LIKE 'n1%'")
    allowed = [i for i in range(50) if str(i).startswith("1")]
    expected = (units(50)[7:8] @ units(50)[allowed].T).argsort(dim=1, descending=True)[0, :3]
    assert results.names == [[f"n{allowed[i]}" for i in expected]]
    assert exact_search(store, units(2), 3, where="name = 'none'").names == [[], []]


def test_an_index_in_memory_is_refreshed(store):
    index = MemoryIndex(store)
    VectorStore(store.folder, 8).add(["new"], units(1, seed=9))
    assert index.search(units(1, seed=9), 1).names != [["new"]]
    index.refresh()
    assert index.search(units(1, seed=9), 1).names == [["new"]]


def test_errors(store, tmp_path):
    with pytest.raises(ValueError, match=r"\[Q, 8\]"):
        exact_search(store, units(2, 7), 3)
    with pytest.raises(ValueError, match="empty"):
        exact_search(VectorStore(tmp_path / "new", 8), units(2), 3)
