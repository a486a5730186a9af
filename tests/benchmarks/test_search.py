"""Parts of benchmarks/search.py: vectors, recall, timing and tables."""

import pytest
import torch
from search import (
    build_store,
    build_tables,
    clustered_vectors,
    compute_recall,
    measure_million,
    time_generators,
    time_interleaved,
    time_search,
)

from featlift.retrieval.exact_search import SearchResults
from report import markdown_table


def test_vectors_are_normalized_and_deterministic(tmp_path):
    store = build_store(tmp_path, 25, 8, chunk_size=10)
    assert (len(store), store.names[-1]) == (25, "24")
    torch.testing.assert_close(store.take(store.rows[[20]]), clustered_vectors(5, 8, 20)[:1])
    torch.testing.assert_close(clustered_vectors(5, 8, 20).norm(dim=1), torch.ones(5))


def test_recall_is_the_fraction_of_the_exact_results():
    def results(*names):
        return SearchResults([list(line) for line in names], torch.empty(0), torch.empty(0))

    assert compute_recall(results("ab", "xd"), results("ba", "cd")) == pytest.approx((1 + 0.5) / 2)


def test_calls_are_interleaved_after_a_warm_up_round():
    called = []
    times = time_interleaved({"a": lambda: called.append("a"), "b": lambda: called.append("b")}, rounds=2)
    assert "".join(called) == "ababab"
    assert times["a"]["least"] <= times["a"]["median"] <= times["a"]["greatest"]


def test_tables_of_all_measurements(tmp_path):
    pytest.importorskip("faiss")
    embedding = {"gist at 128": {"median": 1.0}}
    results = {
        "describe_16": embedding,
        "lift": time_generators(1),
        "search_50": time_search(tmp_path / "a", 400, 16, 1),
    }
    results["million"] = measure_million(tmp_path / "b", 500, 16, cells=4)
    assert results["million"]["recall"] > 0.9
    assert results["search_50"]["recall"]["flat"] == 1
    tables = [markdown_table(table["rows"]) for table in build_tables(results)]
    assert "gist at 128" in tables[0]
    assert "ivf-rabitq" in tables[1]
    assert "peak_memory_MB" in tables[2]
