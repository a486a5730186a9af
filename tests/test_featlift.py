"""The front door."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import featlift

HOUSE = Path(featlift.__file__).parent


ROOMS = {path.stem for path in HOUSE.iterdir() if path.suffix == ".py" or path.is_dir()}


@pytest.mark.parametrize("name", [name for name in featlift.__all__ if name not in ROOMS])
def test_every_name_is_the_thing_of_its_home(name):
    home = featlift._MODULES[name]
    assert getattr(featlift, name) is getattr(importlib.import_module(f"featlift.{home}"), name)


def test_no_name_of_the_door_is_also_a_room():
    assert not ROOMS & set(featlift.__all__)


def test_the_doors_lists_agree():
    assert featlift.__all__ == sorted(featlift._MODULES) == dir(featlift)


def test_what_is_not_there_is_told():
    with pytest.raises(AttributeError, match=r"featlift has no 'interpolate'; its front door has Features, Scenes"):
        _ = featlift.interpolate


def test_a_name_is_imported_when_it_is_used():
    code = "import sys, featlift; before = 'torch' in sys.modules; featlift.Features; print(before, 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=HOUSE.parent)
    assert done.stdout.split() == ["False", "True"]
