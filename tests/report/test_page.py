import dataclasses
import re
from html.parser import HTMLParser

import pytest

from featlift.report import RunRecord, write_report


class Links(HTMLParser):
    """Everything a page would fetch, and its balance of tags."""

    def __init__(self, page):
        super().__init__()
        self.links, self.open = [], []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.links += [value for name, value in attributes if name in ("src", "href", "srcset", "action", "data")]
        if tag not in ("meta", "br", "img", "link"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag in self.open:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_a_page_is_self_contained(tmp_path, runs, comparison, dataset, features):
    path = write_report(tmp_path / "new", runs, [comparison], dataset, features)
    assert path == tmp_path / "new" / "report.html"
    assert list(path.parent.iterdir()) == [path], "no unfinished file stays"
    page = path.read_text()
    parsed = Links(page)
    assert parsed.links
    assert all(link.startswith("data:image/") for link in parsed.links)
    assert parsed.open == []
    assert not re.search(r"https?://|@import|<script|url\(", page)


def test_a_comparison_says_what_was_measured(tmp_path, runs, comparison, dataset, features):
    page = write_report(tmp_path, runs, [comparison], dataset, features).read_text()
    ap = comparison.intervals["boxes"]["ap"].difference
    for text in (
        "afi against nearest",
        f"{100 * ap:+.1f}",
        "1.50×",
        "optimizer.lr",
        "abc1234",
        "p3",
        "6</span>",
        "−2</span>",
    ):
        assert text in page, text
    assert "&lt;lamp&gt;" in page
    assert "<lamp>" not in page


def test_a_run_alone(tmp_path, runs, dataset):
    page = write_report(tmp_path, runs[:1], dataset=dataset).read_text()
    assert "<h1>nearest</h1>" in page
    assert "image 1, detections" in page
    assert "difference" not in page


def test_numbers_alone(tmp_path, runs, comparison):
    assert "<image" not in write_report(tmp_path, runs, [comparison]).read_text()


def test_a_run_that_has_only_a_name(tmp_path):
    assert "<h1>poor</h1>" in write_report(tmp_path, [RunRecord("poor")]).read_text()


def test_three_runs(tmp_path, runs, comparison):
    third = dataclasses.replace(runs[0], name="carafe", profile=None)
    page = write_report(tmp_path, [*runs, third], [comparison], title="Which one?").read_text()
    assert "<h1>Which one?</h1>" in page
    assert "afi and carafe against nearest" in write_report(tmp_path, [*runs, third], [comparison]).read_text()


def test_settings_that_differ_are_marked(tmp_path, runs):
    page = write_report(tmp_path, runs).read_text()
    assert re.search(r'class="differ"><td>interpolator', page)
    assert re.search(r'class=""><td>optimizer.lr', page)


def test_errors_teach(tmp_path, runs, comparison):
    with pytest.raises(ValueError, match="at least one run"):
        write_report(tmp_path, [])
    with pytest.raises(ValueError, match="different names"):
        write_report(tmp_path, [runs[0], runs[0]])
    with pytest.raises(ValueError, match="'nearest' with 'afi'"):
        write_report(tmp_path, runs[:1], [comparison])
