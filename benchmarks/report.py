"""Write the tables of ``benchmarks/results/*.json`` into ``docs/results.md``: ``python benchmarks/report.py``.

Each file has a block between ``<!-- results:name -->`` and ``<!-- end of results:name -->`` in ``docs/results.md``, the README, the page
of a paper or ``docs/reliability.md``. Blocks are regenerated; text outside of them is kept. A file without a block gets one at the end of
``docs/results.md``.
"""

import json
import re
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
DOCS = HERE.parent / "docs"
PAGE = DOCS / "results.md"
OTHERS = [
    HERE.parent / "README.md",
    DOCS / "reliability.md",
    DOCS / "extended_level.md",
    *sorted((DOCS / "papers").glob("*.md")),
]
TITLE = "# Results\n\n`make docs` writes the tables from `benchmarks/results/*.json`.\n"


def format_block(name: str, result: dict[str, Any]) -> str:
    """Return the tables and the provenance of one file between their markers."""
    tables = "\n\n".join(f"**{table['caption']}**\n\n{markdown_table(table['rows'])}" for table in result["tables"])
    return (
        f"<!-- results:{name} -->\n\n{tables}\n\n{format_provenance(result['made'])}\n\n<!-- end of results:{name} -->"
    )


def markdown_table(rows: list[dict[str, Any]]) -> str:
    """Format rows (column → value) as a Markdown table; numbers are right-aligned, missing values are empty."""
    columns = list(dict.fromkeys(column for row in rows for column in row))
    numeric = {c for c in columns if all(isinstance(row.get(c), int | float | None) for row in rows)}
    lines = [columns, ["---:" if column in numeric else "---" for column in columns]]
    lines += [[format_cell(row.get(column)) for column in columns] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def format_cell(value: Any) -> str:
    """Format a cell: thousands separators, at most four decimals, empty for None."""
    if value is None:
        return ""
    value = round(value, 4) if isinstance(value, float) else value
    return f"{value:,}" if isinstance(value, int | float) and not isinstance(value, bool) else str(value)


def format_provenance(metadata: dict[str, Any]) -> str:
    """Return one line with command, date, commit, device and versions."""
    commit = (
        f"{(metadata.get('commit') or 'no commit')[:12]}{' with uncommitted changes' if metadata.get('dirty') else ''}"
    )
    versions = ", ".join(f"{package} {version}" for package, version in metadata.get("versions", {}).items())
    parts = [
        f"`{metadata['command']}`",
        metadata["date"],
        commit,
        metadata["device"],
        versions,
        f"seed {metadata['seed']}",
    ]
    if "load" in metadata:
        parts.append(f"load average before: {metadata['load']}")
    return f"<sub>{' · '.join(parts)}</sub>"


def fill_blocks(page: str, results: dict[str, dict[str, Any]]) -> str:
    """Return ``page`` with a regenerated block for every result.

    An empty block is a placeholder for a future result.

    Raises:
        ValueError: If the page has a block without a result file.
    """
    placeholders = set(re.findall(r"<!-- results:(\S+) -->\s*<!-- end of results:", page))
    orphans = sorted(block_names(page) - placeholders - set(results))
    if orphans:
        raise ValueError(f"The page has blocks for {', '.join(orphans)}, but benchmarks/results has no such file.")
    for name, result in results.items():
        old = re.compile(rf"<!-- results:{re.escape(name)} -->.*?<!-- end of results:{re.escape(name)} -->", re.DOTALL)
        new = format_block(name, result)
        page = old.sub(lambda _, new=new: new, page) if old.search(page) else f"{page.rstrip()}\n\n## {name}\n\n{new}\n"
    return page


def read_results(folder: Path) -> dict[str, dict[str, Any]]:
    """Return every result by name.

    Raises:
        ValueError: If a file has another format than that of ``benchmarks/run.py``.
    """
    results = {path.stem: json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))}
    for name, result in results.items():
        missing = {"tables", "made"} - set(result)
        if missing:
            raise ValueError(
                f"{name}.json has no {', '.join(sorted(missing))}: results are written by write_result() of benchmarks/run.py."
            )
    return results


def main() -> None:
    """Read the results and update all pages."""
    results = read_results(HERE / "results")
    text = PAGE.read_text() if PAGE.exists() else TITLE
    elsewhere: set[str] = set()
    for page in OTHERS:
        names = block_names(page.read_text())
        elsewhere |= names
        if names:
            write_page(page, fill_blocks(page.read_text(), select(results, names)))
    write_page(PAGE, fill_blocks(text, select(results, block_names(text) | (set(results) - elsewhere))))


def block_names(page: str) -> set[str]:
    """Return the names of the results with a block in ``page``."""
    return set(re.findall(r"<!-- results:(\S+) -->", page))


def select(results: dict[str, dict[str, Any]], names: set[str]) -> dict[str, dict[str, Any]]:
    """Return the ``results`` in ``names``, in the order of ``results``."""
    return {name: result for name, result in results.items() if name in names}


def write_page(page: Path, text: str) -> None:
    """Write a page atomically."""
    unfinished = page.with_suffix(".md.part")
    unfinished.write_text(text)
    print(unfinished.replace(page))


if __name__ == "__main__":
    main()
