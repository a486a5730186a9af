"""One HTML page of searches: each query, what was found, and what was found after lifting, as thumbnails side by
side.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from featlift.report.data_uris import image_data_uri


@dataclass(frozen=True)
class SearchHit:
    """One picture that was found. ``mark`` is "new" (only in this ranking), "gone" (only in the other) or empty."""

    image: str
    name: str
    score: float
    mark: str = ""


@dataclass(frozen=True)
class SearchRanking:
    """What one way of searching found, best first."""

    name: str
    hits: list[SearchHit]


@dataclass(frozen=True)
class QueryResults:
    """One query and its rankings; pictures are data URLs."""

    name: str
    image: str
    rankings: list[SearchRanking] = field(default_factory=list)


def build_query_results(query: Path, results: Mapping[str, Sequence[tuple[Path, float]]]) -> QueryResults:
    """The sheet of ``query``: name of the ranking → files and scores, best first. Differences from the first ranking
    are marked.
    """
    rankings = []
    first = {file for file, _ in next(iter(results.values()))}
    every = [{file for file, _ in hits} for hits in results.values()]
    for number, (name, hits) in enumerate(results.items()):
        others = every[-1] if number == 0 else first
        word = "gone" if number == 0 else "new"
        shown = [
            SearchHit(thumbnail_data_uri(f), f"{f.parent.name}/{f.name}", s, "" if f in others else word)
            for f, s in hits
        ]
        rankings.append(SearchRanking(name, shown))
    return QueryResults(query.name, thumbnail_data_uri(query), rankings)


def thumbnail_data_uri(file: Path, max_size: int = 128) -> str:
    """``file`` as a data URL of at most ``max_size`` pixels; a small picture keeps its size. A missing one is an empty
    picture.
    """
    if not file.exists():
        return ""
    with Image.open(file) as opened:
        image = ImageOps.exif_transpose(opened).convert("RGB")
    image.thumbnail((max_size, max_size))
    return image_data_uri(np.asarray(image))


def write_contact_sheet(file: Path, queries: Sequence[QueryResults], title: str, note: str = "") -> None:
    """Writes ``file`` (HTML, self-contained)."""
    from jinja2 import Environment, PackageLoader

    page = Environment(loader=PackageLoader("featlift.report", "."), autoescape=True).get_template("contact_sheet.html")
    half = Path(file).with_name(f".{Path(file).name}.part")
    half.write_text(page.render(sheets=queries, title=title, note=note), encoding="utf-8")
    half.replace(file)
