"""The tables that the papers print, transcribed in ``benchmarks/papers/<paper>.toml`` and shipped inside the installed package."""

import difflib
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.resources import files
from pathlib import Path
from typing import Any

PaperRow = dict[str, Any]
"""Column → what is printed there, "" for an empty cell."""

TABLES_FOLDER = "tables"
"""The folder beside this file where a wheel has the tables; a checkout has them in ``benchmarks/papers``."""


@dataclass(frozen=True)
class PaperTable:
    """A table as a paper prints it.

    Attributes:
        paper: "afi-gan", ….
        number: "1", "2", … as printed, or a word.
        source: title, place and year of the paper.
        caption: what the table is about.
        split: the pictures it was measured on.
        columns: names; ``AP_box`` … are in per cent, ``params_M`` in millions, cut and not rounded.
        rows: one mapping each, every column in it.
    """

    paper: str
    number: str
    source: str
    caption: str
    split: str
    columns: tuple[str, ...]
    rows: tuple[PaperRow, ...]


def list_papers() -> list[str]:
    """Names of the papers whose tables are here."""
    return sorted(path.stem.replace("_", "-") for path in _find_tables_folder().glob("*.toml"))


def load_paper_table(paper: str, number: str) -> PaperTable:
    """Table ``number`` of ``paper``.

    Raises:
        ValueError: if there is no such paper or table; what there is, is said.
    """
    if paper not in list_papers():
        raise ValueError(
            f"There are no tables of '{paper}'.{_suggest(paper, list_papers())} There are: {', '.join(list_papers())}."
        )
    whole = _read_toml(_find_tables_folder() / f"{paper.replace('-', '_')}.toml")
    tables: Mapping[str, Any] = whole["table"]
    if number not in tables:
        note = f" {whole['note']}" if "note" in whole else ""
        raise ValueError(f"'{paper}' has no table '{number}' here; there are {', '.join(tables)}.{note}")
    found, columns = tables[number], tuple(tables[number]["columns"])
    rows = tuple(dict(zip(columns, row, strict=True)) for row in found["rows"])
    return PaperTable(paper, number, whole["source"], found["caption"], found.get("split", ""), columns, rows)


def _find_tables_folder() -> Path:
    """Where the tables are.

    Raises:
        FileNotFoundError: if this is neither an installed package nor a checkout.
    """
    shipped = Path(str(files("featlift.report"))) / TABLES_FOLDER
    checkout = Path(__file__).parents[3] / "benchmarks" / "papers"
    found = next((folder for folder in (shipped, checkout) if folder.is_dir()), None)
    if found is None:
        raise FileNotFoundError(
            f"The papers' tables are neither in {shipped} nor in {checkout}; install featlift anew."
        )
    return found


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        reader = import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
    except ImportError as error:
        raise ImportError(
            "Python 3.10 cannot read TOML by itself; pip install tomli to see the papers' tables."
        ) from error
    with path.open("rb") as file:
        return reader.load(file)


def _suggest(word: str, candidates: list[str]) -> str:
    near = difflib.get_close_matches(word, candidates, n=1)
    return f" Did you mean '{near[0]}'?" if near else ""
