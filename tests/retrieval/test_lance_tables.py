import os

import pytest

from featlift.retrieval.lance_tables import decode_names, encode_name, open_table


@pytest.mark.parametrize(
    "name", ["a.png", "é/写真.png", os.fsdecode(b"caf\xe9.png"), os.fsdecode(bytes(range(1, 256)))]
)
def test_names_come_back(name):
    assert decode_names([encode_name(name)]) == [name]
    encode_name(name).encode()  # UTF-8


def test_the_schema_is_kept(tmp_path):
    for half in (False, True):
        table, _ = open_table(tmp_path / str(half), 8, "f", half)
        assert table.schema.names == ["row", "name", "content", "vector"]
        assert open_table(tmp_path / str(half), 8, "f", not half)[1] == half, "fixed at creation"


def test_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "lancedb", None)
    with pytest.raises(ImportError, match=r"need LanceDB: pip install 'featlift\[retrieval\]'"):
        open_table(tmp_path, 8, "f", False)
