"""The public names of the package."""

import importlib
import importlib.metadata
import subprocess
import sys
from pathlib import Path

import pytest

import featlift

PACKAGE = Path(featlift.__file__).parent
LISTS = ("list_detectors", "list_interpolators", "list_pyramids")
MODULES = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or path.is_dir()}


@pytest.mark.parametrize("name", featlift._MODULES)
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
        match=r"'featlift' has no attribute 'interpolate'; its public names are Features, Predictor, SyntheticScenes",
    ):
        _ = featlift.interpolate


def test_a_name_is_imported_when_it_is_used():
    code = "import sys, featlift; before = 'torch' in sys.modules; featlift.Features; print(before, 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PACKAGE.parent)
    assert done.stdout.split() == ["False", "True"]


def test_the_version_is_that_of_the_package():
    assert featlift.__version__ == importlib.metadata.version("featlift")


def test_names_can_be_listed():
    assert {"nearest", "afi", "srf", "carafe"} <= set(featlift.list_interpolators())
    assert {"faster-rcnn", "retinanet", "fcos"} <= set(featlift.list_detectors())
    assert {"fpn", "pafpn", "bifpn"} <= set(featlift.list_pyramids())


@pytest.mark.parametrize("name", LISTS)
def test_lists_hold_names(name):
    names = getattr(featlift, name)()
    assert isinstance(names, list)
    assert all(isinstance(entry, str) for entry in names)
    assert len(set(names)) == len(names) > 2
