"""A store survives an interrupted process, and rejects vectors of another embedder."""

import json

import numpy as np
import pytest
import torch

from featlift.retrieval import vector_store as module
from featlift.retrieval.vector_store import VectorStore


def random_vectors(n, dimension=4, seed=0):
    return torch.rand(n, dimension, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def store(tmp_path):
    store = VectorStore(tmp_path / "s", 4, fingerprint="x")
    store.add(["a", "b", "c"], random_vectors(3))
    store.add(["d", "e"], random_vectors(2, seed=1))
    return store


def reopen(store):
    return VectorStore(store.folder, store.dimension, store.fingerprint)


def test_rows_come_back_in_order_and_from_disk(store):
    reopened = reopen(store)
    assert reopened.names == ["a", "b", "c", "d", "e"]
    assert torch.equal(
        reopened.take([4, 0, 4, 2]), torch.cat([random_vectors(3), random_vectors(2, seed=1)])[[4, 0, 4, 2]]
    )
    assert isinstance(reopened._chunks[0], np.memmap)
    assert (len(reopened), reopened.num_rows, reopened.row("d"), "e" in reopened, "z" in reopened) == (
        5,
        5,
        3,
        True,
        False,
    )


@pytest.mark.parametrize("start", [0, 1, 3, 4, 5])
def test_batches_cover_all_rows_from_start(store, start):
    expected = torch.cat([random_vectors(3), random_vectors(2, seed=1)])
    batches = list(store.iter_batches(start, batch_size=2))
    assert torch.equal(torch.cat([vectors for _, vectors in batches] + [expected[:0]]), expected[start:])
    assert all(torch.equal(vectors, expected[first : first + len(vectors)]) for first, vectors in batches)
    assert all(len(vectors) <= 2 for _, vectors in batches)


def test_removal_is_stored_and_all_or_nothing(store):
    store.remove(["b"])
    assert "b" not in store
    assert len(reopen(store)) == 4
    assert reopen(store).removed == {1}
    with pytest.raises(KeyError, match="unknown"):
        store.remove(["a", "unknown"])
    assert "a" in store
    store.add(["b"], random_vectors(1, seed=5))
    assert (store.row("b"), reopen(store).row("b")) == (5, 5)


def test_adding_a_name_again_replaces_its_vector(store):
    store.add(["a", "f"], random_vectors(2, seed=7))
    assert (len(store), store.row("a"), store.removed) == (6, 5, {0})
    assert reopen(store).row("a") == 5


@pytest.mark.parametrize("failing", ["npy", "json", "manifest"])
def test_an_interrupted_addition_is_discarded(store, monkeypatch, failing):
    """Interruption before the vectors, the names or the manifest are in place."""
    real = module.Path.replace

    def interrupted(self, target):
        if target.name.endswith(f".{failing}") or target.stem == failing:
            raise KeyboardInterrupt
        return real(self, target)

    monkeypatch.setattr(module.Path, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        store.add(["new"], random_vectors(1, seed=9))
    monkeypatch.undo()
    reopened = reopen(store)
    assert reopened.names == ["a", "b", "c", "d", "e"]
    reopened.add(["newer"], random_vectors(1, seed=3))
    assert torch.equal(reopen(store).take([5]), random_vectors(1, seed=3))


def test_a_partial_file_never_has_the_final_name(store, monkeypatch):
    def interrupted(file, array):
        file.write(b"partial")
        raise KeyboardInterrupt

    monkeypatch.setattr(np, "save", interrupted)
    before = sorted(store.folder.iterdir())
    with pytest.raises(KeyboardInterrupt):
        store.add(["new"], random_vectors(1))
    assert sorted(store.folder.iterdir()) == before


def test_other_vectors_are_rejected(store):
    with pytest.raises(ValueError, match="dimension 4"):
        VectorStore(store.folder, 5, fingerprint="x")
    with pytest.raises(ValueError, match="cannot be compared"):
        VectorStore(store.folder, 4, fingerprint="y")


@pytest.mark.parametrize(
    ("names", "vectors"), [(["x"], random_vectors(2)), (["x", "x"], random_vectors(2)), (["x"], random_vectors(1, 5))]
)
def test_mismatches_are_rejected(store, names, vectors):
    with pytest.raises(ValueError, match="every name once"):
        store.add(names, vectors)


def test_half_precision(tmp_path):
    VectorStore(tmp_path, 4, half=True).add(["a"], random_vectors(1))
    reopened = VectorStore(tmp_path, 4)
    assert reopened.half
    torch.testing.assert_close(reopened.take([0]), random_vectors(1), atol=1e-3, rtol=1e-3)
    assert reopened.take([0]).dtype == torch.float32
    assert json.loads((tmp_path / "manifest.json").read_text())["half"]


def test_an_empty_addition_is_no_chunk(store):
    store.add([], torch.empty(0, 4))
    assert len(list(store.folder.glob("*.npy"))) == 2
