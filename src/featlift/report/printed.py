"""Tables of the papers, transcribed in ``benchmarks/papers/<paper>.toml`` and shipped with the installed package."""

import difflib
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.resources import files
from pathlib import Path
from typing import Any

PaperRow = dict[str, Any]
"""Column → printed value, "" for an empty cell."""

TABLES_FOLDER = "tables"
"""Folder of the tables within ``featlift/report`` in a wheel; in a checkout they are in ``benchmarks/papers``."""


@dataclass(frozen=True)
class PaperTable:
    """A table as printed in a paper.

    Attributes:
        paper: Name of the paper, such as "afi-gan".
        number: "1", "2", … as printed, or a word.
        source: Title, venue and year of the paper.
        caption: Subject of the table.
        split: Dataset split of the results.
        columns: Column names; ``AP_box`` … are in percent, ``params_M`` in millions, truncated and not rounded.
        rows: Rows as mappings with all columns.
    """

    paper: str
    number: str
    source: str
    caption: str
    split: str
    columns: tuple[str, ...]
    rows: tuple[PaperRow, ...]


def list_papers() -> list[str]:
    """Return the names of the papers with transcribed tables."""
    return sorted(path.stem.replace("_", "-") for path in _find_tables_folder().glob("*.toml"))


def load_paper_table(paper: str, number: str) -> PaperTable:
    """Return table ``number`` of ``paper``.

    Raises:
        ValueError: If the paper or the table is unknown; the message lists the known ones.
    """
    if paper not in list_papers():
        raise ValueError(
            f"No tables of '{paper}'.{_suggest(paper, list_papers())} Papers with tables: {', '.join(list_papers())}."
        )
    content = _read_toml(_find_tables_folder() / f"{paper.replace('-', '_')}.toml")
    tables: Mapping[str, Any] = content["table"]
    if number not in tables:
        note = f" {content['note']}" if "note" in content else ""
        raise ValueError(f"'{paper}' has no table '{number}'; choose one of {', '.join(tables)}.{note}")
    table, columns = tables[number], tuple(tables[number]["columns"])
    rows = tuple(dict(zip(columns, row, strict=True)) for row in table["rows"])
    return PaperTable(paper, number, content["source"], table["caption"], table.get("split", ""), columns, rows)


def _find_tables_folder() -> Path:
    """Return the folder of the tables.

    Raises:
        FileNotFoundError: If neither an installed package nor a checkout has the tables.
    """
    installed = Path(str(files("featlift.report"))) / TABLES_FOLDER
    checkout = Path(__file__).parents[3] / "benchmarks" / "papers"
    folder = next((folder for folder in (installed, checkout) if folder.is_dir()), None)
    if folder is None:
        raise FileNotFoundError(f"The papers' tables are neither in {installed} nor in {checkout}; reinstall featlift.")
    return folder


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        reader = import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
    except ImportError as error:
        raise ImportError("Python 3.10 has no TOML reader: pip install tomli to read the papers' tables.") from error
    with path.open("rb") as file:
        return reader.load(file)


def _suggest(word: str, candidates: list[str]) -> str:
    matches = difflib.get_close_matches(word, candidates, n=1)
    return f" Did you mean '{matches[0]}'?" if matches else ""
