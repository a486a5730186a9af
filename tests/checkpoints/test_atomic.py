"""Atomic files: complete or absent, with no temporary file left."""

import pytest

from featlift.checkpoints.atomic import write_atomic


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
