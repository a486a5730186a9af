import json

import pytest

from report import blocks, chosen, filled, read, rendered

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
    assert rendered(RESULT["tables"][0]["rows"]).splitlines() == [
        "| name | ms | n |",
        "| --- | ---: | ---: |",
        "| a | 1.5 |  |",
        "| b |  | 12,345 |",
    ]


def test_what_is_written_by_hand_stays():
    page = "# Mine\n\nbefore\n\n<!-- results:speed -->\nold \\1\n<!-- end of results:speed -->\n\nafter\n"
    once = filled(page, {"speed": RESULT})
    assert once.startswith("# Mine\n\nbefore\n\n<!-- results:speed -->")
    assert once.endswith("<!-- end of results:speed -->\n\nafter\n")
    assert "old" not in once
    assert "| a | 1.5 |" in once
    assert "0123456789ab with changes" in once
    assert filled(once, {"speed": RESULT}) == once


def test_a_new_result_gets_a_block_at_the_end():
    page = filled("# Mine\n", {"speed": RESULT})
    assert page.startswith("# Mine\n\n## speed\n\n<!-- results:speed -->")
    assert filled(page, {"speed": RESULT}) == page


def test_a_block_without_its_result_is_told():
    with pytest.raises(ValueError, match=r"blocks for gone"):
        filled("<!-- results:gone -->old<!-- end of results:gone -->", {})


def test_an_empty_block_waits():
    page = "<!-- results:speed -->\n<!-- end of results:speed -->\n"
    assert filled(page, {}) == page
    assert "| a | 1.5 |" in filled(page, {"speed": RESULT})


def test_a_page_shows_its_own_results():
    results = {"speed": RESULT, "size": RESULT}
    page = "<!-- results:size --><!-- end of results:size -->"
    assert blocks(page) == {"size"}
    assert "results:speed" not in filled(page, chosen(results, blocks(page)))


def test_a_file_of_another_form_is_told(tmp_path):
    (tmp_path / "other.json").write_text(json.dumps({"rows": []}))
    with pytest.raises(ValueError, match=r"other.json has no made, tables"):
        read(tmp_path)
