"""The parts of benchmarks/search.py that can break: the vectors it makes, what it counts, and the tables it writes."""

import pytest
import torch
from search import clustered, interleaved, lifting, million, recalled, searching, stored, tables

from featlift.retrieval.exact_search import SearchResults
from report import rendered


def test_vectors_have_length_one_and_follow_from_their_start(tmp_path):
    store = stored(tmp_path, 25, 8, piece=10)
    assert (len(store), store.names[-1]) == (25, "24")
    torch.testing.assert_close(store.take([20]), clustered(5, 8, 20)[:1])
    torch.testing.assert_close(clustered(5, 8, 20).norm(dim=1), torch.ones(5))


def test_recall_is_the_share_of_the_exact_answers():
    def answers(*names):
        return SearchResults([list(line) for line in names], torch.empty(0), torch.empty(0))

    assert recalled(answers("ab", "xd"), answers("ba", "cd")) == pytest.approx((1 + 0.5) / 2)


def test_calls_take_turns_and_the_first_does_not_count():
    called = []
    times = interleaved({"a": lambda: called.append("a"), "b": lambda: called.append("b")}, rounds=2)
    assert "".join(called) == "ababab"
    assert times["a"]["least"] <= times["a"]["median"] <= times["a"]["greatest"]


def test_every_part_gives_the_tables_what_they_show(tmp_path):
    pytest.importorskip("faiss")
    asked = {"gist at 128": {"median": 1.0}}
    found = {"describe_16": asked, "lift": lifting(1), "search_50": searching(tmp_path / "a", 400, 16, 1)}
    found["million"] = million(tmp_path / "b", 500, 16, cells=4)
    assert found["million"]["recall"] > 0.9
    assert found["search_50"]["recall"]["flat"] == 1
    shown = [rendered(table["rows"]) for table in tables(found)]
    assert "gist at 128" in shown[0]
    assert "ivf-rabitq" in shown[1]
    assert "peak_memory_MB" in shown[2]
