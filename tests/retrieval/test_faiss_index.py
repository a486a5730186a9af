"""FAISS compared with exact search: every index type, interrupted builds, removed rows and rows not yet indexed."""

import pytest
import torch
import torch.nn.functional as nnf

from featlift.retrieval.exact_search import exact_search
from featlift.retrieval.faiss_index import INDEX_FACTORY_STRINGS, FaissIndex
from featlift.retrieval.vector_store import VectorStore

faiss = pytest.importorskip("faiss")


def units(n, seed=0, dimension=32):
    """Clustered unit vectors, similar to descriptors."""
    generator = torch.Generator().manual_seed(seed)
    centers = torch.randn(20, dimension, generator=torch.Generator().manual_seed(99))
    return nnf.normalize(centers[torch.arange(n) % 20] + 0.5 * torch.randn(n, dimension, generator=generator), dim=1)


@pytest.fixture
def store(tmp_path):
    faiss.omp_set_num_threads(1)
    made = VectorStore(tmp_path, 32)
    made.add([f"n{i}" for i in range(1200)], units(1200))
    return made


@pytest.fixture(params=list(INDEX_FACTORY_STRINGS))
def index(request, store):
    made = FaissIndex(store, request.param, nlist=16)
    assert made.build(batch_size=500) == 1200
    return made


def recall(index, k=10):
    queries = units(20, seed=1)
    near, exact = index.search(queries, k, nprobe=8).names, exact_search(index.store, queries, k).names
    return sum(len(set(a) & set(b)) for a, b in zip(near, exact, strict=True)) / (20 * k)


def test_equals_exact_search_with_the_same_scores(index):
    assert recall(index) > (0.99 if index.index_type == "flat" else 0.9)
    queries = units(3, seed=2)
    results = index.search(queries, 5)
    expected = (queries[:, None] * index.store.take(results.rows.flatten().tolist()).view(3, 5, 32)).sum(2)
    torch.testing.assert_close(results.scores, expected)
    assert (results.scores.diff(dim=1) <= 0).all()
    assert results.names[0][0] == index.store.names[results.rows[0, 0]]


def test_removed_rows_are_excluded_and_new_ones_included(index):
    query = units(1)
    assert index.search(query, 1).names == [["n0"]]
    index.store.remove(["n0"])
    assert "n0" not in index.search(query, 20).names[0]
    index.store.add(["new"], query)  # not in the FAISS index yet
    assert index.search(query, 1).names == [["new"]]
    assert index.build() == 1
    assert index.search(query, 1).names == [["new"]]
    assert recall(index) > 0.9


def test_build_resumes_after_an_interruption(store, monkeypatch):
    store.add([f"m{i}" for i in range(3000)], units(3000, seed=5))
    index = FaissIndex(store, "ivf-rabitq", nlist=16)
    iter_batches = store.iter_batches

    def interrupted(start=0, batch_size=0):
        for first, vectors in iter_batches(start, batch_size):
            if first >= 2000:
                raise KeyboardInterrupt
            yield first, vectors

    monkeypatch.setattr(store, "iter_batches", interrupted)
    with pytest.raises(KeyboardInterrupt):
        index.build(batch_size=500)
    monkeypatch.undo()
    num_indexed = faiss.read_index(str(index.path)).ntotal
    assert 500 <= num_indexed <= 2000
    assert FaissIndex(store, "ivf-rabitq").build(batch_size=500) == 4200 - num_indexed
    assert faiss.read_index(str(index.path)).ntotal == 4200
    assert recall(FaissIndex(store, "ivf-rabitq")) > 0.9
    assert not list(store.folder.glob("*.part"))


def test_small_collections_get_few_cells(tmp_path):
    small = VectorStore(tmp_path / "small", 32)
    small.add(["a", "b", "c"], units(3))
    index = FaissIndex(small, "ivf-flat")
    index.build()
    assert index.search(units(1), 10).names[0][0] == "a"


def test_errors(store, tmp_path):
    with pytest.raises(ValueError, match="ivf-rabitq"):
        FaissIndex(store, "magic")
    with pytest.raises(FileNotFoundError, match=r"build\(\)"):
        FaissIndex(store, "flat").search(units(1), 1)
    with pytest.raises(ValueError, match="empty"):
        FaissIndex(VectorStore(tmp_path / "new", 32), "flat").build()


@pytest.mark.parametrize(("dimension", "number"), [(1280, 256), (32, 16), (576, 192), (4096, 256), (7, 1)])
def test_product_codes_divide_the_descriptor(dimension, number):
    assert INDEX_FACTORY_STRINGS["ivf-pq"](dimension, 5) == f"IVF5,PQ{number}x4fs"
