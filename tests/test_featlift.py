"""The public names of the package."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import featlift

PACKAGE = Path(featlift.__file__).parent
MODULES = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or path.is_dir()}


@pytest.mark.parametrize("name", [name for name in featlift.__all__ if name not in MODULES])
def test_every_name_is_imported_from_its_module(name):
    module = featlift._MODULES[name]
    assert getattr(featlift, name) is getattr(importlib.import_module(f"featlift.{module}"), name)


def test_no_public_name_is_also_a_module():
    assert not MODULES & set(featlift.__all__)


def test_the_lists_of_names_agree():
    assert featlift.__all__ == sorted(featlift._MODULES) == dir(featlift)


def test_an_unknown_name_raises():
    with pytest.raises(
        AttributeError,
        match=r"'featlift' has no attribute 'interpolate'; its public names are Features, SyntheticScenes",
    ):
        _ = featlift.interpolate


def test_a_name_is_imported_when_it_is_used():
    code = "import sys, featlift; before = 'torch' in sys.modules; featlift.Features; print(before, 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PACKAGE.parent)
    assert done.stdout.split() == ["False", "True"]
