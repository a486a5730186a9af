import json

import pytest

from report import block_names, fill_blocks, markdown_table, read_results, select

MADE = {
    "command": "python x.py",
    "date": "2026-01-01",
    "commit": "0123456789abcdef",
    "dirty": True,
    "device": "cpu",
    "seed": 3,
}
RESULT = {
    "tables": [{"caption": "Speed", "rows": [{"name": "a", "ms": 1.5}, {"name": "b", "ms": None, "n": 12345}]}],
    "made": MADE,
}


def test_a_table():
    assert markdown_table(RESULT["tables"][0]["rows"]).splitlines() == [
        "| name | ms | n |",
        "| --- | ---: | ---: |",
        "| a | 1.5 |  |",
        "| b |  | 12,345 |",
    ]


def test_text_outside_of_blocks_is_kept():
    page = "# Mine\n\nbefore\n\n<!-- results:speed -->\nold \\1\n<!-- end of results:speed -->\n\nafter\n"
    once = fill_blocks(page, {"speed": RESULT})
    assert once.startswith("# Mine\n\nbefore\n\n<!-- results:speed -->")
    assert once.endswith("<!-- end of results:speed -->\n\nafter\n")
    assert "old" not in once
    assert "| a | 1.5 |" in once
    assert "0123456789ab with uncommitted changes" in once
    assert fill_blocks(once, {"speed": RESULT}) == once


def test_a_new_result_gets_a_block_at_the_end():
    page = fill_blocks("# Mine\n", {"speed": RESULT})
    assert page.startswith("# Mine\n\n## speed\n\n<!-- results:speed -->")
    assert fill_blocks(page, {"speed": RESULT}) == page


def test_a_block_without_a_result_is_an_error():
    with pytest.raises(ValueError, match=r"blocks for gone"):
        fill_blocks("<!-- results:gone -->old<!-- end of results:gone -->", {})


def test_an_empty_block_is_a_placeholder():
    page = "<!-- results:speed -->\n<!-- end of results:speed -->\n"
    assert fill_blocks(page, {}) == page
    assert "| a | 1.5 |" in fill_blocks(page, {"speed": RESULT})


def test_a_page_has_its_own_results():
    results = {"speed": RESULT, "size": RESULT}
    page = "<!-- results:size --><!-- end of results:size -->"
    assert block_names(page) == {"size"}
    assert "results:speed" not in fill_blocks(page, select(results, block_names(page)))


def test_a_file_of_another_format_is_an_error(tmp_path):
    (tmp_path / "other.json").write_text(json.dumps({"rows": []}))
    with pytest.raises(ValueError, match=r"other.json has no made, tables"):
        read_results(tmp_path)
