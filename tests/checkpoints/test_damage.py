import json

import pytest

from featlift.checkpoints.damage import describe_cause, explain_damage, read_json


@pytest.mark.parametrize(
    "error", [KeyError("model"), RuntimeError("size mismatch\nfor layer"), RecursionError(), EOFError()]
)
def test_errors_of_readers_name_the_file_and_the_remedy(error):
    sentence = r"a\.bin is damaged.*" + type(error).__name__ + r".*\)\. Copy it again\.$"
    with pytest.raises(ValueError, match=sentence), explain_damage("a.bin", "Copy it again."):
        raise error


def test_other_errors_pass():
    with pytest.raises(ValueError, match=r"^too small$"), explain_damage("a.bin", "Copy it again."):
        raise ValueError("too small")
    with pytest.raises(FileNotFoundError), explain_damage("a.bin", "Copy it again."):
        raise FileNotFoundError


def test_the_cause_is_one_line():
    assert describe_cause(RuntimeError("\n first.\nsecond")) == "RuntimeError: first"
    assert describe_cause(RecursionError()) == "RecursionError"


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[" * 100_000])
def test_json_that_is_none(tmp_path, content):
    path = tmp_path / "settings.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"settings\.json is damaged .*Delete it\."):
        read_json(path, "Delete it.")


def test_json(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps({"ä": [1]}, ensure_ascii=False), encoding="utf-8")
    assert read_json(tmp_path / "a.json") == {"ä": [1]}
    with pytest.raises(FileNotFoundError):
        read_json(tmp_path / "b.json")
