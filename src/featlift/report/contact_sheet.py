"""HTML contact sheet of image searches: each query with the hits of every ranking as thumbnails."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from featlift.checkpoints.atomic import write_atomic
from featlift.data.image_io import read_image
from featlift.report.annotated_crops import to_uint8
from featlift.report.data_uris import image_data_uri


@dataclass(frozen=True)
class SearchHit:
    """A retrieved image. ``mark`` is "new" (only in this ranking), "gone" (only in the other ranking) or empty."""

    image: str
    name: str
    score: float
    mark: str = ""


@dataclass(frozen=True)
class SearchRanking:
    """The hits of one search method, best first."""

    name: str
    hits: list[SearchHit]


@dataclass(frozen=True)
class QueryResults:
    """A query and its rankings; images are data URIs."""

    name: str
    image: str
    rankings: list[SearchRanking] = field(default_factory=list)


def build_query_results(query: Path, results: Mapping[str, Sequence[tuple[Path, float]]]) -> QueryResults:
    """Collect the rankings of ``query``; ``results`` maps ranking name → (file, score), best first.

    Hits that differ from the first ranking are marked.
    """
    rankings = []
    hit_files = [{file for file, _ in hits} for hits in results.values()]
    for index, (name, hits) in enumerate(results.items()):
        reference = hit_files[-1] if index == 0 else hit_files[0]
        mark = "gone" if index == 0 else "new"
        search_hits = [
            SearchHit(
                thumbnail_data_uri(file), f"{file.parent.name}/{file.name}", score, "" if file in reference else mark
            )
            for file, score in hits
        ]
        rankings.append(SearchRanking(name, search_hits))
    return QueryResults(query.name, thumbnail_data_uri(query), rankings)


def thumbnail_data_uri(file: Path, max_size: int = 128) -> str:
    """Return ``file`` as a data URI of at most ``max_size`` pixels per side; smaller images keep their size.

    A missing file gives an empty string.
    """
    if not file.exists():
        return ""
    image = Image.fromarray(to_uint8(read_image(file, None, sys.maxsize)))
    image.thumbnail((max_size, max_size))
    return image_data_uri(np.asarray(image))


def write_contact_sheet(file: Path, queries: Sequence[QueryResults], title: str, note: str = "") -> None:
    """Write the self-contained HTML page ``file``."""
    from jinja2 import Environment, PackageLoader

    page = Environment(loader=PackageLoader("featlift.report", "."), autoescape=True).get_template("contact_sheet.html")
    write_atomic(file, page.render(queries=queries, title=title, note=note))
