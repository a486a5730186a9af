"""Atomic files: complete or absent, with no temporary file left."""

import pytest

from featlift.checkpoints import atomic
from featlift.checkpoints.atomic import remove_temporary_files, write_atomic


@pytest.mark.parametrize("content", ["ä½", "ä½".encode(), lambda path: path.write_text("ä½", encoding="utf-8")])
@pytest.mark.parametrize("durable", [False, True])
def test_text_bytes_and_writers(tmp_path, content, durable):
    path = tmp_path / "new" / "a.txt"
    assert write_atomic(path, content, durable) == path
    assert path.read_text(encoding="utf-8") == "ä½"
    assert list(path.parent.iterdir()) == [path]


def test_a_failed_write_leaves_the_old_file_alone(tmp_path):
    def fail_halfway(path):
        path.write_text("half")
        raise RuntimeError("stop")

    path = write_atomic(tmp_path / "a.txt", "old")
    with pytest.raises(RuntimeError, match="stop"):
        write_atomic(path, fail_halfway)
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_text() == "old"


def test_durable_files_and_their_names_are_on_disk_in_order(tmp_path, monkeypatch):
    flushed = []
    monkeypatch.setattr(atomic.os, "fsync", lambda file: flushed.append(atomic.os.readlink(f"/proc/self/fd/{file}")))
    path = write_atomic(tmp_path / "a.txt", "new", durable=True)
    assert flushed == [str(path.with_name(f".a.txt.{atomic.os.getpid()}")), str(tmp_path)]


def test_only_what_killed_writers_left_is_removed(tmp_path):
    left = [tmp_path / ".a.txt.4711", tmp_path / ".model.safetensors.12"]
    kept = [tmp_path / name for name in (".lock", ".lock.json", "a.txt", "a.4711", ".gitignore", ".hidden.v2")]
    for path in (*left, *kept):
        path.write_text("x")
    assert sorted(remove_temporary_files(tmp_path)) == sorted(left)
    assert sorted(tmp_path.iterdir()) == sorted(kept)
