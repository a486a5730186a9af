"""Run the zoo and write ``docs/supported.md``: ``python -m tests.integrations.supported [--missing] [--onnx] [PACKAGE | NAME …]``.

Every row is saved when it is done; ``--missing`` goes on with those that have not passed, or with ``--onnx``, which exports, too, with
those that were not exported. An export takes longer than all other checks.
"""

import importlib.util
import json
import subprocess
import sys
import time
from collections import Counter
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tests.integrations import zoo_convolutional, zoo_transformers, zoo_ultralytics, zoo_yolo
from tests.integrations.conftest import CONFIG_DIR  # sets the environment variables of the libraries, too
from tests.integrations.zoo import ZooEntry
from tests.integrations.zoo_checks import check_onnx, check_refused, check_upgraded

ROOT = Path(__file__).parents[2]
RESULTS = Path(__file__).with_name("supported.json")
PASSED, REFUSED = "passed", "refused, with the reason"
PAGE = ROOT / "docs" / "supported.md"
ENTRIES = (
    *zoo_ultralytics.ENTRIES,
    *zoo_convolutional.ENTRIES,
    *zoo_yolo.ENTRIES,
    *zoo_transformers.ENTRIES,
)


def run_entry(entry: ZooEntry, known: dict[str, Any], with_onnx: bool) -> dict[str, Any]:
    """Return the row of the table: the levels, the result, and the outcome of the ONNX export if asked for.

    A row ``known`` that has passed is kept.
    """
    if importlib.util.find_spec(entry.module) is None:
        return {"result": "not installed"}
    try:
        if known:
            return known | {"onnx": check_onnx(entry)}
        if not entry.steps:
            return {"result": REFUSED, "reason": check_refused(entry)}
        report = check_upgraded(entry)
        levels = ", ".join(row.level for row in report.rows)
        return {"result": PASSED, "levels": levels} | ({"onnx": check_onnx(entry)} if with_onnx else {})
    except Exception as error:  # the table shows what failed
        return {"result": f"fails: {type(error).__name__}: {(str(error).splitlines() or [''])[0][:80]}"}


def main(arguments: list[str]) -> None:
    """Run the entries whose package or name is in ``arguments``, add their rows to the results and write the page."""
    names = [name for name in arguments if not name.startswith("--")]
    commit = subprocess.check_output(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, text=True).strip()
    for entry in ENTRIES:
        results = read_results()
        known = results.get(row_key(entry), {}) if "--missing" in arguments else {}
        known = known if known.get("result") in (PASSED, REFUSED) else {}
        is_done = known.get("result") == REFUSED or bool(known and ("onnx" in known or "--onnx" not in arguments))
        if (names and entry.package not in names and entry.name not in names) or is_done:
            continue
        start = time.monotonic()
        stamp = {"version": version(entry.package), "commit": commit, "date": str(date.today())}
        row = stamp | run_entry(entry, known, "--onnx" in arguments)
        RESULTS.write_text(json.dumps(results | {row_key(entry): row}, indent=1, sort_keys=True) + "\n")
        print(
            f"{entry.package} {entry.name}: {row['result']} {row.get('onnx', '')} ({time.monotonic() - start:.0f} s)",
            flush=True,
        )
    PAGE.write_text(build_page(read_results()))


def read_results() -> dict[str, dict[str, Any]]:
    """Return the rows that were written so far, by :func:`row_key`."""
    return json.loads(RESULTS.read_text()) if RESULTS.exists() else {}


def row_key(entry: ZooEntry) -> str:
    """Return the key of the entry in the results."""
    return f"{entry.package}: {entry.name}"


def build_page(results: dict[str, dict[str, Any]]) -> str:
    """Return the text of ``docs/supported.md``."""
    rows = {row_key(entry): entry for entry in ENTRIES}
    lines = [_format_row(entry, results[key]) for key, entry in rows.items() if key in results]
    counts = Counter(results[key]["result"] for key in rows if key in results)
    summary = ", ".join(f"{count} {result}" for result, count in counts.most_common())
    return INTRODUCTION.format(summary=f"{len(lines)} networks: {summary}.") + "\n".join(lines) + "\n"


def _format_row(entry: ZooEntry, row: dict[str, Any]) -> str:
    neck = (f"`{entry.neck}`" if entry.neck else "the model") if entry.steps else ""
    cells = (
        entry.package,
        row["version"],
        entry.name,
        str(entry.steps),
        row.get("levels", ""),
        neck,
        entry.source,
        row["result"],
        row.get("onnx", ""),
        row["commit"],
        "; ".join(
            filter(None, (entry.note, row.get("reason", "").replace("none was called", "no interpolation is called")))
        ),
    )
    return f"| {' | '.join(cells)} |"


INTRODUCTION = """# Supported networks

Networks of other libraries, built without weights and small, upgraded by `featlift.upgrade(model, "light")`. "Passed" means: as many
upsampling steps as counted by hand in the source code (column "counted in"), in the right module; outputs bit-identical before training
at five image sizes, odd ones where the network takes them; every added parameter gets a gradient; trained adapters change the outputs; a
deep copy and a delta on a fresh network give equal outputs; `downgrade` restores outputs, classes and names. ONNX: `featlift.deployment`
exports the network with trained adapters, and onnxruntime gives its outputs; "neither": the plain network is not exported either, with the
reason; empty where it was not tried. Networks without a step are
refused with a list of what was seen.

{summary}

This page is written by `python -m tests.integrations.supported`; `make test-integrations` repeats the checks, except the ONNX export.

| library | version | network | steps | levels | in | counted in | result | ONNX | commit | note |
|---|---|---|---:|---|---|---|---|---|---|---|
"""

if __name__ == "__main__":
    CONFIG_DIR.mkdir(exist_ok=True)
    main(sys.argv[1:])
