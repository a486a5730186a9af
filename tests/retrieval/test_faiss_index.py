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
    assert results.names[0][0] == index.store.names_of([int(results.rows[0, 0])])[0]


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
    index, take = FaissIndex(store, "ivf-rabitq", nlist=16), store.take

    def interrupted(rows):
        if store.rows[2000] in rows and len(rows) == 500:
            raise KeyboardInterrupt
        return take(rows)

    monkeypatch.setattr(store, "take", interrupted)
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


@pytest.mark.parametrize("index_type", ["ivf-flat", "hnsw"])
def test_more_results_than_the_cells_hold_are_real_names(store, index_type):
    """FAISS fills up with -1, which is no row: the last image was found under these before."""
    index = FaissIndex(store, index_type, nlist=16)
    index.build()
    results = index.search(units(3, seed=4), 900, k_factor=1, nprobe=1)
    assert [len(set(names)) for names in results.names] == [900] * 3
    assert results.scores.isfinite().all()
    if index_type == "ivf-flat":
        assert results.names == exact_search(store, units(3, seed=4), 900).names


def test_files_without_ids_are_searched_and_built_anew(store):
    """A file that another program made: vectors numbered by their order, which rows no longer are."""
    other = faiss.IndexFlatIP(32)
    other.add(units(1200).numpy())
    index = FaissIndex(store, "flat")
    faiss.write_index(other, str(index.path))
    assert index.search(units(2), 3).names == exact_search(store, units(2), 3).names
    assert index.build() == 1200
    assert isinstance(faiss.read_index(str(index.path)), faiss.IndexIDMap)


def test_an_index_of_removed_rows_is_built_anew(store):
    index = FaissIndex(store, "hnsw")
    index.build()
    store.remove([f"n{i}" for i in range(400)])
    assert index.build() == 800
    assert faiss.read_index(str(index.path)).ntotal == 800


def test_a_damaged_file_is_named(store):
    index = FaissIndex(store, "flat")
    index.path.write_bytes(b"damaged")
    with pytest.raises(ValueError, match=r"flat\.faiss is damaged .* Delete it; featlift index"):
        index.build()


def test_equal_scores_go_by_row_and_other_queries_are_refused(store):
    store.add([f"copy{i}" for i in range(5)], units(1).repeat(5, 1))
    index = FaissIndex(store, "flat")
    index.build()
    assert index.search(units(1).double(), 6).names == [["n0", *(f"copy{i}" for i in range(5))]]
    with pytest.raises(ValueError, match=r"Query 0 has length 7"):
        index.search(units(1) * 7, 3)


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
