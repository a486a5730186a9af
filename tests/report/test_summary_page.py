"""The summary page of the runs of conftest: six of sixteen objects gained, two lost, no false positives."""

import re

from featlift.report.summary_page import Section, object_examples, summary_rows, write_summary_page


def test_rows_of_a_section(runs, comparison):
    rows = {row.name: row for row in summary_rows(runs, [comparison])}
    assert list(rows) == [
        "AP",
        "AP tiny",
        "AP small",
        "AR small",
        "Objects gained and lost",
        "False positives",
        "Milliseconds per image",
    ]
    assert [cell.text for cell in rows["Objects gained and lost"].cells] == ["", "+6 −2"]
    assert rows["Objects gained and lost"].cells[1].change == "of 16"
    assert [cell.text for cell in rows["False positives"].cells] == ["0", "0"]
    assert [(cell.text, cell.change) for cell in rows["Milliseconds per image"].cells] == [
        ("50.0", ""),
        ("75.0", "1.50×"),
    ]
    ap = rows["AP small"].cells[1]
    assert ap.interval == comparison.intervals["boxes"]["ap_small"]


def test_runs_that_were_not_profiled_have_no_time(runs, comparison):
    runs[1].profile = None
    assert "Milliseconds per image" not in {row.name for row in summary_rows(runs, [comparison])}


def test_examples_are_the_most_confident_objects(dataset, runs, comparison):
    examples = object_examples(dataset, comparison, runs, 4)
    assert {heading: len(pairs) for heading, pairs in examples.items()} == {
        "Gained: the 4 most confident of 6": 4,
        "Lost: the 2 most confident of 2": 2,
    }


def test_the_page(dataset, runs, comparison, tmp_path):
    examples = object_examples(dataset, comparison, runs, 3)
    rows = summary_rows(runs, [comparison])
    section = Section("First <part>", ["A sentence."], ["nearest", "afi"], rows, examples, "level/report.html")
    path = write_summary_page(tmp_path / "report.html", "Title", "Introduction.", [section])
    page = path.read_text()
    assert page.startswith("<!doctype html>")
    for text in ("First &lt;part&gt;", "A sentence.", "Introduction.", "+6 −2", 'href="level/report.html"'):
        assert text in page
    assert page.count("<figure>") == 5
    assert len(re.findall(r'href="data:image/png;base64', page)) == 10
    assert "http" not in re.sub(r'xmlns="[^"]*"', "", page)
