"""Counts of what the fuzz tests did; ``make fuzz`` writes them to ``benchmarks/results/fuzz.json`` and ``docs/reliability.md``."""

import os
import shlex
import sys
from collections import Counter, defaultdict
from pathlib import Path

import pytest
import torch

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
INPUTS = (
    "mutated annotation files, with and without --skip-broken",
    "damaged images",
    "damaged YOLO, PASCAL VOC and LabelMe files",
    "damaged weights",
    "commands on damaged files",
)
DATASETS = "random data sets"
COUNTS: dict[str, Counter[str]] = defaultdict(Counter)
LARGEST_DIFFERENCE = [0.0]


@pytest.fixture
def count():
    """A function that counts an outcome, "read" or "refused", of one of `INPUTS`."""

    def add(what: str, outcome: str) -> None:
        COUNTS[what][outcome] += 1

    return add


@pytest.fixture
def compare():
    """A function that counts a data set of `DATASETS`, the numbers compared and their largest difference."""

    def add(ours, theirs) -> None:
        COUNTS[DATASETS]["compared"] += 1
        COUNTS[DATASETS]["numbers"] += len(ours)
        LARGEST_DIFFERENCE[0] = max(LARGEST_DIFFERENCE[0], *(abs(a - b) for a, b in zip(ours, theirs, strict=True)))

    return add


def format_tables() -> list[dict]:
    """Tables of the counts of a run without failures."""
    rows = [
        {
            "input": what,
            "cases": COUNTS[what].total(),
            "read, or run to the end": COUNTS[what]["read"],
            "refused by name": COUNTS[what]["refused"],
            "tracebacks, unnamed errors, silent losses": 0,
        }
        for what in INPUTS
        if COUNTS[what]
    ]
    datasets = {
        "data sets": COUNTS[DATASETS]["data sets"],
        "comparisons with pycocotools": COUNTS[DATASETS]["compared"],
        "numbers compared": COUNTS[DATASETS]["numbers"],
        "largest difference": LARGEST_DIFFERENCE[0],
    }
    return [
        {"caption": "Mutated and damaged files", "rows": rows},
        {"caption": "Random COCO data sets: our AP and AR, and pycocotools' of the files we wrote", "rows": [datasets]},
    ]


def pytest_sessionfinish(session, exitstatus):
    """Write the counts of a run in one process without failure, if files, images and data sets were among its tests."""
    if not os.environ.get("FEATLIFT_FUZZ") or exitstatus or not {*INPUTS[:2], DATASETS} <= set(COUNTS):
        return
    sys.path.insert(0, str(BENCHMARKS))
    from run import collect_metadata, write_result

    import report

    command = shlex.join(["FEATLIFT_FUZZ=1", "python", "-m", "pytest", *session.config.invocation_params.args])
    print(write_result("fuzz", format_tables(), collect_metadata(torch.device("cpu"), command)))
    report.main()
