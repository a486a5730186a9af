import pytest
import torch
import torch.nn.functional as nnf

from featlift.deployment.search_options import SearchOptions
from featlift.deployment.store_search import search_expanded, search_store
from featlift.retrieval.vector_store import VectorStore


@pytest.fixture
def store(tmp_path):
    store = VectorStore(tmp_path / "index", 4)
    vectors = nnf.normalize(torch.randn(6, 4, generator=torch.Generator().manual_seed(0)), dim=1)
    store.add([f"{k}.png" for k in range(6)], vectors)
    return store


def test_an_expanded_search_starts_from_the_first_results(store):
    vectors = store.take([store.row(f"{k}.png") for k in range(6)])
    query = nnf.normalize(vectors[:1] + 0.3 * vectors[1:2], dim=1)
    first = search_store(store, query, 1, "")
    expanded = nnf.normalize(query + first.scores[0, 0] ** 3 * store.take(first.rows[0].tolist())[0], dim=1)
    found = search_expanded(store, query, 6, SearchOptions(expand=1))
    torch.testing.assert_close(found.scores[0], (vectors @ expanded[0]).sort(descending=True).values)
    assert torch.equal(
        search_expanded(store, query, 6, SearchOptions()).scores, search_store(store, query, 6, "").scores
    )
