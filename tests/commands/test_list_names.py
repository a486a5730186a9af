import pytest

from featlift.cli import main
from featlift.commands.list_names import list_names
from featlift.detectors import DETECTORS
from featlift.interpolators import INTERPOLATORS


def test_every_name_is_listed(capsys):
    list_names(channels=8)
    printed = capsys.readouterr().out.split()
    assert set(printed) >= {*INTERPOLATORS, *DETECTORS, "quick", "paper", "official"}


def test_one_list(capsys):
    assert main.main(["list", "detectors"]) == 0
    printed = capsys.readouterr().out
    assert "mask-rcnn" in printed
    assert "carafe" not in printed


def test_an_unknown_list_is_refused():
    with pytest.raises(
        ValueError,
        match="Unknown list 'backbones'; choose one of interpolators, pyramids, texture-transfers, detectors",
    ):
        list_names(("backbones",))
