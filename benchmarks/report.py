"""Puts every ``benchmarks/results/*.json`` into ``docs/results.md``: ``python benchmarks/report.py``.

Each file has a block between ``<!-- results:name -->`` and ``<!-- end of results:name -->``, which is written anew: there, in the README or
in a paper's page. What stands outside the blocks is written by hand and stays. A file that has no block anywhere gets one at the end of
``docs/results.md``.
"""

import json
import re
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "results.md"
OTHERS = [HERE.parent / "README.md", *sorted((HERE.parent / "docs" / "papers").glob("*.md"))]
TITLE = "# Results\n\nTables between markers are written by `make docs` from `benchmarks/results/*.json`; the rest is written by hand.\n"


def block(name: str, result: dict[str, Any]) -> str:
    """The tables of one file and where they were made, between their markers."""
    tables = "\n\n".join(f"**{table['caption']}**\n\n{rendered(table['rows'])}" for table in result["tables"])
    return f"<!-- results:{name} -->\n\n{tables}\n\n{origin(result['made'])}\n\n<!-- end of results:{name} -->"


def rendered(rows: list[dict[str, Any]]) -> str:
    """Rows (column → value) as a Markdown table; numbers stand at the right, a value that is not there is empty."""
    columns = list(dict.fromkeys(column for row in rows for column in row))
    numeric = {c for c in columns if all(isinstance(row.get(c), int | float | None) for row in rows)}
    lines = [columns, ["---:" if column in numeric else "---" for column in columns]]
    lines += [[shown(row.get(column)) for column in columns] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def shown(value: Any) -> str:
    """A cell: thousands are separated, floats have at most four decimals, nothing for None."""
    if value is None:
        return ""
    value = round(value, 4) if isinstance(value, float) else value
    return f"{value:,}" if isinstance(value, int | float) and not isinstance(value, bool) else str(value)


def origin(made: dict[str, Any]) -> str:
    """One line: command, date, commit, device, versions."""
    commit = f"{(made.get('commit') or 'no commit')[:12]}{' with changes' if made.get('dirty') else ''}"
    versions = ", ".join(f"{package} {version}" for package, version in made.get("versions", {}).items())
    parts = [f"`{made['command']}`", made["date"], commit, made["device"], versions, f"seed {made['seed']}"]
    if "load" in made:
        parts.append(f"load of the machine before: {made['load']}")
    return f"<sub>{' · '.join(parts)}</sub>"


def filled(page: str, results: dict[str, dict[str, Any]]) -> str:
    """``page`` with the block of every result written anew.

    A block with nothing in it waits for its first result.

    Raises:
        ValueError: if the page shows a result that there is no file of.
    """
    waiting = set(re.findall(r"<!-- results:(\S+) -->\s*<!-- end of results:", page))
    orphans = sorted(blocks(page) - waiting - set(results))
    if orphans:
        raise ValueError(
            f"The page has blocks for {', '.join(orphans)}, but there is no such file in benchmarks/results."
        )
    for name, result in results.items():
        old = re.compile(rf"<!-- results:{re.escape(name)} -->.*?<!-- end of results:{re.escape(name)} -->", re.DOTALL)
        new = block(name, result)
        page = old.sub(lambda _, new=new: new, page) if old.search(page) else f"{page.rstrip()}\n\n## {name}\n\n{new}\n"
    return page


def read(folder: Path) -> dict[str, dict[str, Any]]:
    """Every result by name.

    Raises:
        ValueError: if a file has not the form that ``benchmarks/run.py`` writes.
    """
    results = {path.stem: json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))}
    for name, result in results.items():
        missing = {"tables", "made"} - set(result)
        if missing:
            raise ValueError(
                f"{name}.json has no {', '.join(sorted(missing))}: results are written by benchmarks/run.py's keep()."
            )
    return results


def main() -> None:
    """Reads the results and the page, and writes the page."""
    results = read(HERE / "results")
    text = PAGE.read_text() if PAGE.exists() else TITLE
    elsewhere: set[str] = set()
    for page in OTHERS:
        here = blocks(page.read_text())
        elsewhere |= here
        if here:
            write(page, filled(page.read_text(), chosen(results, here)))
    write(PAGE, filled(text, chosen(results, blocks(text) | (set(results) - elsewhere))))


def blocks(page: str) -> set[str]:
    """The names of the results that ``page`` shows."""
    return set(re.findall(r"<!-- results:(\S+) -->", page))


def chosen(results: dict[str, dict[str, Any]], names: set[str]) -> dict[str, dict[str, Any]]:
    """Those of ``results`` that are in ``names``, in their order."""
    return {name: result for name, result in results.items() if name in names}


def write(page: Path, text: str) -> None:
    """Writes a page, whole or not at all."""
    draft = page.with_suffix(".md.part")
    draft.write_text(text)
    print(draft.replace(page))


if __name__ == "__main__":
    main()
