"""Run the zoo and write ``docs/supported.md``: ``python -m tests.integrations.supported [PACKAGE …]`` (none: all packages)."""

import importlib.util
import json
import subprocess
import sys
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tests.integrations import zoo_convolutional, zoo_transformers, zoo_ultralytics
from tests.integrations.conftest import CONFIG_DIR  # sets the environment variables of the libraries, too
from tests.integrations.zoo import ZooEntry
from tests.integrations.zoo_checks import check_refused, check_upgraded

ROOT = Path(__file__).parents[2]
RESULTS = Path(__file__).with_name("supported.json")
PAGE = ROOT / "docs" / "supported.md"
ENTRIES = (*zoo_ultralytics.ENTRIES, *zoo_convolutional.ENTRIES, *zoo_transformers.ENTRIES)


def run_entry(entry: ZooEntry) -> dict[str, Any]:
    """Return the row of the table: the number of steps, the levels and the result."""
    if importlib.util.find_spec(entry.module) is None:
        return {"result": "not installed"}
    try:
        if not entry.steps:
            check_refused(entry)
            return {"result": "refused, with the reason"}
        report = check_upgraded(entry)
    except Exception as error:  # the table shows what failed
        return {"result": f"fails: {type(error).__name__}: {str(error).splitlines()[0][:80]}"}
    levels = ", ".join(row.level for row in report.rows)
    return {"result": "passed", "levels": levels}


def main(packages: list[str]) -> None:
    """Run the entries of ``packages``, add their rows to the results and write the page."""
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    commit = subprocess.check_output(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, text=True).strip()
    for entry in ENTRIES:
        if not packages or entry.package in packages:
            print(entry.package, entry.name, flush=True)
            row = run_entry(entry) | {"version": version(entry.package), "commit": commit, "date": str(date.today())}
            results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
            results[f"{entry.package}: {entry.name}"] = row
            RESULTS.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n")
            print("   ", row["result"], flush=True)
    PAGE.write_text(build_page(results))


def build_page(results: dict[str, dict[str, Any]]) -> str:
    """Return the text of ``docs/supported.md``."""
    rows = {f"{entry.package}: {entry.name}": entry for entry in ENTRIES}
    lines = [_format_row(entry, results[key]) for key, entry in rows.items() if key in results]
    return INTRODUCTION + "\n".join(lines) + "\n"


def _format_row(entry: ZooEntry, row: dict[str, Any]) -> str:
    neck = f"`{entry.neck}`" if entry.neck else "the model" if entry.steps else ""
    cells = (
        entry.package,
        row["version"],
        entry.name,
        str(entry.steps),
        row.get("levels", ""),
        neck,
        row["result"],
        row["commit"],
        entry.note,
    )
    return f"| {' | '.join(cells)} |"


INTRODUCTION = """# Supported networks

Networks of other libraries, built without weights and small, upgraded by `featlift.upgrade(model, "light")`. "Passed" means: as many
upsampling steps as counted by hand in the source code, in the right module; outputs bit-identical before training at five image sizes, odd
ones where the network takes them; every added parameter gets a gradient; trained adapters change the outputs; a deep copy and a delta on a
fresh network give equal outputs; `downgrade` restores outputs, classes and names. Networks without a step are refused with a list of what
was seen.

This page is written by `python -m tests.integrations.supported`; `make test-integrations` repeats the checks.

| library | version | network | steps | levels | in | result | commit | note |
|---|---|---|---:|---|---|---|---|---|
"""

if __name__ == "__main__":
    CONFIG_DIR.mkdir(exist_ok=True)
    main(sys.argv[1:])
