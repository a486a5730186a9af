"""A store survives everything that can happen to a process, and never mixes what cannot be compared."""

import json

import numpy as np
import pytest
import torch

from featlift.retrieval import vector_store as module
from featlift.retrieval.vector_store import VectorStore


def some(n, dimension=4, seed=0):
    return torch.rand(n, dimension, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def store(tmp_path):
    made = VectorStore(tmp_path / "s", 4, fingerprint="x")
    made.add(["a", "b", "c"], some(3))
    made.add(["d", "e"], some(2, seed=1))
    return made


def reopened(store):
    return VectorStore(store.folder, store.dimension, store.about)


def test_rows_come_back_in_order_and_from_disk(store):
    again = reopened(store)
    assert again.names == ["a", "b", "c", "d", "e"]
    assert torch.equal(again.take([4, 0, 4, 2]), torch.cat([some(3), some(2, seed=1)])[[4, 0, 4, 2]])
    assert isinstance(again._chunks[0], np.memmap)
    assert (len(again), again.num_rows, again.row("d"), "e" in again, "z" in again) == (5, 5, 3, True, False)


@pytest.mark.parametrize("start", [0, 1, 3, 4, 5])
def test_blocks_cover_everything_from_a_row_on(store, start):
    whole = torch.cat([some(3), some(2, seed=1)])
    blocks = list(store.blocks(start, size=2))
    assert torch.equal(torch.cat([vectors for _, vectors in blocks] + [whole[:0]]), whole[start:])
    assert all(torch.equal(vectors, whole[first : first + len(vectors)]) for first, vectors in blocks)
    assert all(len(vectors) <= 2 for _, vectors in blocks)


def test_removal_is_kept_and_all_or_nothing(store):
    store.remove(["b"])
    assert "b" not in store
    assert len(reopened(store)) == 4
    assert reopened(store).removed == {1}
    with pytest.raises(KeyError, match="nothing-like-it"):
        store.remove(["a", "nothing-like-it"])
    assert "a" in store
    store.add(["b"], some(1, seed=5))
    assert (store.row("b"), reopened(store).row("b")) == (5, 5)


def test_adding_a_name_again_replaces_its_vector(store):
    store.add(["a", "f"], some(2, seed=7))
    assert (len(store), store.row("a"), store.removed) == (6, 5, {0})
    assert reopened(store).row("a") == 5


@pytest.mark.parametrize("dying", ["npy", "json", "manifest"])
def test_a_process_that_dies_while_adding_loses_only_that(store, monkeypatch, dying):
    """Death before the vectors, before the names, before the manifest are in place."""
    real = module.Path.replace

    def dies(self, target):
        if target.name.endswith(f".{dying}") or target.stem == dying:
            raise KeyboardInterrupt
        return real(self, target)

    monkeypatch.setattr(module.Path, "replace", dies)
    with pytest.raises(KeyboardInterrupt):
        store.add(["new"], some(1, seed=9))
    monkeypatch.undo()
    again = reopened(store)
    assert again.names == ["a", "b", "c", "d", "e"]
    again.add(["newer"], some(1, seed=3))
    assert torch.equal(reopened(store).take([5]), some(1, seed=3))


def test_a_half_written_file_never_has_the_real_name(store, monkeypatch):
    def dies(file, array):
        file.write(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(np, "save", dies)
    before = sorted(store.folder.iterdir())
    with pytest.raises(KeyboardInterrupt):
        store.add(["new"], some(1))
    assert sorted(store.folder.iterdir()) == before


def test_other_vectors_are_refused(store):
    with pytest.raises(ValueError, match="dimension 4"):
        VectorStore(store.folder, 5, fingerprint="x")
    with pytest.raises(ValueError, match="cannot be compared"):
        VectorStore(store.folder, 4, fingerprint="y")


@pytest.mark.parametrize(("names", "vectors"), [(["x"], some(2)), (["x", "x"], some(2)), (["x"], some(1, 5))])
def test_what_does_not_fit_is_refused(store, names, vectors):
    with pytest.raises(ValueError, match="every name once"):
        store.add(names, vectors)


def test_half_precision(tmp_path):
    VectorStore(tmp_path, 4, half=True).add(["a"], some(1))
    again = VectorStore(tmp_path, 4)
    assert again.half
    torch.testing.assert_close(again.take([0]), some(1), atol=1e-3, rtol=1e-3)
    assert again.take([0]).dtype == torch.float32
    assert json.loads((tmp_path / "manifest.json").read_text())["half"]


def test_an_empty_add_is_no_piece(store):
    store.add([], torch.empty(0, 4))
    assert len(list(store.folder.glob("*.npy"))) == 2
