"""The page shows the hits, marks the differences, and is self-contained."""

from pathlib import Path

import torch
from PIL import Image

from featlift.report import contact_sheet
from featlift.report.contact_sheet import build_query_results, thumbnail_data_uri, write_contact_sheet


def write_image(folder, name, size=(300, 200)):
    Image.new("RGB", size, (9, 99, 199)).save(folder / name)
    return folder / name


def test_differences_are_marked(tmp_path):
    q, a, b, c = (write_image(tmp_path, f"{n}.png") for n in "qabc")
    made = build_query_results(q, {"raw": [(a, 0.9), (b, 0.8)], "super-resolved": [(c, 0.95), (a, 0.7)]})
    marks = {r.name: [(h.name.split("/")[-1], h.mark) for h in r.hits] for r in made.rankings}
    assert made.rankings[0].hits[0].name == f"{tmp_path.name}/a.png"
    assert marks == {"raw": [("a.png", ""), ("b.png", "gone")], "super-resolved": [("c.png", "new"), ("a.png", "")]}


def test_page_is_one_file_and_escapes_names(tmp_path):
    q = write_image(tmp_path, "a<b>&.png")
    write_contact_sheet(tmp_path / "page.html", [build_query_results(q, {"raw": [(q, 0.5)]})], "Title <x>")
    page = (tmp_path / "page.html").read_text()
    assert "a&lt;b&gt;&amp;.png" in page
    assert "0.500" in page
    assert "Title &lt;x&gt;" in page
    assert 'src="http' not in page
    assert page.count("data:image/png;base64,") == 2


def test_thumbnails_have_no_limit_of_pixels(tmp_path, monkeypatch):
    """An index made with --max-pixels has images above the default limit."""
    limits = []

    def read(file, size, max_pixels):
        limits.append(max_pixels)
        return torch.zeros(3, 9, 9)

    monkeypatch.setattr(contact_sheet, "read_image", read)
    thumbnail_data_uri(write_image(tmp_path, "a.png"))
    assert limits[0] > 10**12


def test_thumbnails(tmp_path):
    assert thumbnail_data_uri(Path("nowhere.png")) == ""
    assert len(thumbnail_data_uri(write_image(tmp_path, "big.png"))) < 5000
