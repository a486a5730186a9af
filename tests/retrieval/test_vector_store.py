"""A store survives an interrupted process, is shared by processes, and rejects vectors of another embedder."""

import os
import resource
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as nnf
from tests.forked_scripts import start_script

from featlift.checkpoints.folder_lock import FolderLock
from featlift.retrieval.vector_store import VectorStore

WRITER = Path(__file__).parent / "write_vectors.py"


def unit_vectors(n, dimension=4, seed=0):
    return nnf.normalize(torch.rand(n, dimension, generator=torch.Generator().manual_seed(seed)), dim=1)


ALL = torch.cat([unit_vectors(3), unit_vectors(2, seed=1)])


@pytest.fixture
def store(tmp_path):
    store = VectorStore(tmp_path / "s", 4, fingerprint="x")
    store.add(["a", "b", "c"], unit_vectors(3))
    store.add(["d", "e"], unit_vectors(2, seed=1))
    return store


def reopen(store):
    return VectorStore(store.folder, store.dimension, store.fingerprint)


def vector_of(store, name):
    return store.take([store.row(name)])[0]


def test_rows_come_back_in_order_and_from_disk(store):
    reopened = reopen(store)
    assert reopened.names == ["a", "b", "c", "d", "e"]
    assert torch.equal(reopened.take(reopened.rows[[4, 0, 4, 2]]), ALL[[4, 0, 4, 2]])
    assert (np.diff(reopened.rows) > 0).all()
    assert reopened.names_of(reopened.rows[[3, 1]]) == ["d", "b"]
    assert (len(reopened), reopened.row("d"), "e" in reopened, "z" in reopened) == (5, store.rows[3], True, False)
    assert reopened.take([]).shape == (0, 4)
    with pytest.raises(KeyError, match="no row 7"):
        reopened.take([7])


@pytest.mark.parametrize("batch_size", [1, 2, 1000])
def test_batches_cover_all_rows(store, batch_size):
    batches = list(store.iter_batches(batch_size=batch_size))
    rows = np.concatenate([rows for rows, _ in batches])
    assert torch.equal(torch.cat([vectors for _, vectors in batches])[np.argsort(rows)], ALL)
    assert sorted(rows) == store.rows.tolist()
    assert all(len(vectors) == len(rows) <= batch_size for rows, vectors in batches)


def test_conditions(store):
    assert [store.names_of(rows) for rows, _ in store.iter_batches("name IN ('b', 'e')")] in (
        [["b", "e"]],
        [["b"], ["e"]],
    )
    with pytest.raises(ValueError, match=r"«nam = 'b'» cannot be used .*No field named nam.*name LIKE 'cam0/%'"):
        list(store.iter_batches("nam = 'b'"))


def test_removal_is_stored_and_all_or_nothing(store):
    row = store.row("e")
    store.remove(["e"])
    assert "e" not in store
    assert reopen(store).names == ["a", "b", "c", "d"]
    with pytest.raises(KeyError, match="unknown"):
        store.remove(["a", "unknown"])
    assert "a" in store
    store.add(["f"], unit_vectors(1, seed=5))
    assert store.row("f") == reopen(store).row("f") > row, "a row is never given again"


def test_adding_a_name_again_replaces_its_vector(store):
    old = store.row("a")
    store.add(["f", "a"], unit_vectors(2, seed=7), ["1", "2"])
    assert len(store) == len(reopen(store)) == 6
    assert store.row("a") == reopen(store).row("a") > old
    assert torch.equal(vector_of(reopen(store), "a"), unit_vectors(2, seed=7)[1])
    assert {name: torch.equal(vector_of(store, name), ALL["abcde".index(name)]) for name in "bcde"} == dict.fromkeys(
        "bcde", True
    )
    assert store.contents() == {"b": "", "c": "", "d": "", "e": "", "f": "1", "a": "2"}


def test_random_changes_equal_a_dictionary(store):
    """Additions, replacements, removals and compactions, compared with a dictionary after each."""
    expected, rng = {name: ALL["abcde".index(name)] for name in "abcde"}, np.random.default_rng(0)
    for step in range(8):
        names = [f"n{i}" for i in rng.choice(20, 5, replace=False)]
        vectors = unit_vectors(5, seed=100 + step)
        store.add(names, vectors)
        expected |= dict(zip(names, vectors, strict=True))
        gone = list(rng.choice(sorted(expected), 2, replace=False))
        store.remove(gone)
        for name in gone:
            del expected[name]
        if step % 4 == 3:
            store.compact()
        for seen in (store, reopen(store)) if step % 4 else (store,):
            assert set(seen.names) == set(expected)
            assert torch.equal(seen.take([seen.row(name) for name in expected]), torch.stack(list(expected.values())))


def test_other_vectors_are_rejected(store):
    with pytest.raises(ValueError, match="dimension 4"):
        VectorStore(store.folder, 5, fingerprint="x")
    with pytest.raises(ValueError, match="cannot be compared"):
        VectorStore(store.folder, 4, fingerprint="y")


@pytest.mark.parametrize(
    ("names", "vectors"), [(["x"], unit_vectors(2)), (["x", "x"], unit_vectors(2)), (["x"], unit_vectors(1, 5))]
)
def test_mismatches_are_rejected(store, names, vectors):
    with pytest.raises(ValueError, match="every name once"):
        store.add(names, vectors)


def test_vectors_of_another_length_are_rejected(store):
    with pytest.raises(ValueError, match=r"Vector 1 has length 3, and 0 more"):
        store.add(["x", "y"], unit_vectors(2) * torch.tensor([[1.0], [3.0]]))
    assert "x" not in reopen(store)


def test_half_precision(tmp_path):
    VectorStore(tmp_path, 4, half=True).add(["a"], unit_vectors(1))
    reopened = VectorStore(tmp_path, 4)
    assert reopened.half
    torch.testing.assert_close(vector_of(reopened, "a"), unit_vectors(1)[0], atol=1e-3, rtol=1e-3)
    assert vector_of(reopened, "a").dtype == torch.float32


def test_names_that_are_not_in_utf8(store):
    names = [os.fsdecode(b"caf\xe9.png"), "café.png", "写真.png"]
    store.add(names, unit_vectors(3, seed=3))
    assert reopen(store).names[5:] == names
    store.remove(names[:1])
    assert names[1] in reopen(store)


def test_an_older_folder_is_named(tmp_path):
    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(ValueError, match="older version of FeatLift; delete it and build it again"):
        VectorStore(tmp_path, 4)


def test_a_damaged_table_is_named(store):
    for file in store.folder.rglob("*.manifest"):
        file.write_bytes(b"damaged")
    with pytest.raises(ValueError, match=r"s is damaged \(.*\)\. Delete it and build it again"):
        reopen(store)


def test_compaction_keeps_rows_and_frees_the_disk(store):
    for i in range(10):
        store.add([f"n{i}", "a"], unit_vectors(2, seed=i))
    rows, size = store.rows.copy(), disk_space(store.folder)
    vectors = store.take(rows)
    store.compact(timedelta(0))
    assert disk_space(store.folder) < size / 3
    assert np.array_equal(reopen(store).rows, rows)
    assert torch.equal(reopen(store).take(rows), vectors)


def disk_space(folder):
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def test_many_additions_need_few_open_files(store):
    """The store of chunks that this one replaced held a file descriptor for each addition."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 20, limit[1]))
    try:
        for i in range(70):
            store.add([f"n{i}"], unit_vectors(1, seed=i))
        assert torch.equal(vector_of(store, "n69"), unit_vectors(1, seed=69)[0])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limit)


def test_a_reader_keeps_its_version_and_refreshes(store):
    reader = reopen(store)
    store.remove(["a"])
    store.add(["f"], unit_vectors(1, seed=8))
    assert torch.equal(reader.take(reader.rows), ALL)
    reader.refresh()
    assert reader.names == ["b", "c", "d", "e", "f"]


def writer(folder, *options):
    """A process that adds vectors to ``folder``, and its output."""
    output = folder.with_name(f"{folder.name}-{options[0]}")
    os.mkfifo(output)
    process = start_script(WRITER, folder, *options, stdout=output, stderr=folder.with_name("errors"))
    return process, output.open()


def test_two_processes_lose_nothing_and_a_killed_one_leaves_whole_additions(tmp_path):
    """A writer of 20 additions, and one that is killed, some names in both."""
    (first, first_output), (second, second_output) = writer(tmp_path, "0", "20"), writer(tmp_path, "10", "400")
    for _ in range(15):
        assert second_output.readline().startswith("added")
    second.kill()
    assert first_output.read().count("added") == 20
    for process, output in ((first, first_output), (second, second_output)):
        process.join(200)
        output.close()
    assert [first.exitcode, second.exitcode] == [0, -9]
    store = VectorStore(tmp_path, 4)
    numbers = sorted({int(name.split("-")[0]) for name in store.names})
    assert numbers == list(range(len(numbers)))
    assert 25 <= len(numbers) < 400
    assert len(store.names) == 3 * len(numbers), "an addition is there as a whole or not at all"
    expected = torch.cat([unit_vectors(3, seed=number) for number in numbers])
    names = [f"{number}-{i}" for number in numbers for i in range(3)]
    assert torch.equal(store.take([store.row(name) for name in names]), expected)


def test_a_locked_store_is_waited_for(store):
    with FolderLock(store.folder):  # the same process may write
        store.add(["f"], unit_vectors(1))
    assert "f" in store
