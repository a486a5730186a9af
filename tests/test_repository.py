"""Nothing of one machine is in the repository: no tracked text file names a folder of it."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MACHINE_PATH = re.compile(
    r"(?<![\w.~/!-])/(?:work|tmp|root|home|Users|mnt|opt|srv|scratch|data|usr|var)/[\w.]|\.\./shared\b"
)
"""An absolute path below a usual root folder, or the data folder beside one developer's checkout."""
ALLOWED = {"tests/test_repository.py"}
"""This file, for its own examples."""


def tracked_files() -> list[str]:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    return [name for name in listed.stdout.splitlines() if (ROOT / name).is_file()]


def machine_paths(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if MACHINE_PATH.search(line)]


def test_no_text_file_names_a_folder_of_one_machine():
    found = {}
    for name in set(tracked_files()) - ALLOWED:
        try:
            lines = machine_paths((ROOT / name).read_text(encoding="utf-8"))
        except UnicodeDecodeError:
            continue
        if lines:
            found[name] = lines[0][:120]
    assert not found, "name data as DATA/…, and run folders as runs/…"


@pytest.mark.parametrize(
    ("text", "is_found"),
    [
        ("x.py /work/shared/data", True),
        ('"/tmp/run"', True),
        ("--data ../shared/data", True),
        ("DATA/gtsdb runs/a", False),
        ("#!/usr/bin/env bash", False),
        ("https://example.org/data/set", False),
        ("src/data/coco.py and AP/home", False),
    ],
)
def test_what_counts_as_a_path(text, is_found):
    assert bool(machine_paths(text)) == is_found
