"""The verbs with networks of other libraries: ``featlift upgrade``, ``profile``, ``export``, ``add-level``."""

from pathlib import Path

import pytest
import torch

from featlift.cli.main import main
from featlift.integrations.by_name import load_network_by_name
from featlift.upgrading import is_upgraded, load_delta

SOURCE = """
from torch import nn

def build():
    layers = nn.Conv2d(3, 4, 8, 8), nn.Conv2d(4, 4, 3, padding=1), nn.Upsample(scale_factor=2), nn.Conv2d(4, 2, 1)
    return nn.Sequential(*layers)
"""


@pytest.fixture
def network(tmp_path: Path) -> str:
    (tmp_path / "network.py").write_text(SOURCE)
    return f"{tmp_path / 'network.py'}:build"


def test_upgrade(network: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    out = tmp_path / "delta.safetensors"
    torch.manual_seed(0)
    assert main(["upgrade", network, "--interpolator", "light", "--out", str(out)]) == 0
    printed = capsys.readouterr()
    assert "bit-identical" in printed.out
    assert "random weights" not in printed.err
    torch.manual_seed(0)
    model = load_network_by_name(network)
    load_delta(model, out)
    assert is_upgraded(model)


def test_the_trainer_is_that_of_the_library(network: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["upgrade", network, "--steps", "1", "--data", "scenes", "--out", str(tmp_path / "delta")]) == 1
    assert "train it with the trainer of its library" in capsys.readouterr().err
    assert main(["add-level", network, "--out", str(tmp_path / "level")]) == 1
    assert "does not support an extended level" in capsys.readouterr().err


def test_profile(network: str, capsys: pytest.CaptureFixture[str]):
    assert main(["profile", network, "light", "carafe", "--image-size", "64", "--rounds", "1", "--device", "cpu"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()[2:]]
    assert [line[:3] for line in lines] == [
        ["as", "it", "is"],
        ["+", "light", lines[1][2]],
        ["+", "carafe", lines[2][2]],
    ]
    assert int(lines[1][2].replace(",", "")) > int(lines[0][3].replace(",", ""))


@pytest.mark.parametrize(("format", "suffix"), [("onnx", "onnx"), ("torch-export", "pt2")])
def test_export(format: str, suffix: str, network: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    out = tmp_path / f"network.{suffix}"
    assert main(["export", network, "--format", format, "--out", str(out)]) == 0
    assert "at 640x640" in capsys.readouterr().out
    assert out.is_file()
    assert main(["export", network, "--part", "extractor", "--out", str(out)]) == 1
    assert "choose one of detector" in capsys.readouterr().err
