import pytest
import torch

import featlift
from featlift.app.detectors import name_detectors, open_detector
from featlift.baseline.settings import Settings
from featlift.detectors.checkpoint import load_detector, save_detector
from featlift.detectors.config import build_detector


@pytest.fixture
def run(tmp_path):
    config = Settings.quick().model
    save_detector(build_detector(config, 1), config, ["sign"], tmp_path / "nearest")
    return tmp_path / "nearest"


def test_a_delta_is_added_to_a_run(run, tmp_path):
    upgraded = load_detector(run)[0]
    featlift.upgrade(upgraded, "light")
    with torch.no_grad():
        for parameter in featlift.added_parameters(upgraded).values():
            parameter.add_(0.1)
    featlift.save_delta(upgraded, tmp_path / "light.safetensors")
    plain, other = (
        open_detector(str(run), device="cpu"),
        open_detector(f"{run}+{tmp_path}/light.safetensors", device="cpu"),
    )
    assert plain.classes == other.classes == ["sign"]
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        maps = [network.backbone(image)["p2"] for network in (plain.detector, other.detector, upgraded.eval())]
    assert torch.equal(maps[1], maps[2])
    assert not torch.equal(maps[0], maps[1])


def test_a_detector_of_torchvision_has_cocos_classes(monkeypatch):
    opened = []
    monkeypatch.setattr(
        "featlift.app.detectors.load_network_by_name",
        lambda *arguments: opened.append(arguments) or build_detector(Settings.quick().model, 90),
    )
    predictor = open_detector("torchvision:fasterrcnn_resnet50_fpn", "cpu")
    assert opened == [("torchvision:fasterrcnn_resnet50_fpn", "DEFAULT")]
    assert (predictor.classes[0], predictor.classes[89], len(predictor.classes)) == ("person", "toothbrush", 90)


def test_what_cannot_be_shown(run):
    file = run.parent / "own.py"
    file.write_text("import torch\n\n\ndef build():\n    return torch.nn.Linear(2, 2)\n")
    with pytest.raises(ValueError, match="other inputs than torchvision"):
        open_detector(f"{file}:build")
    with pytest.raises(FileNotFoundError, match=r"none\.safetensors"):
        open_detector(f"{run}+none.safetensors", device="cpu")


def test_names_are_those_of_the_folders_unless_equal():
    assert list(name_detectors(("runs/a", "runs/b"))) == ["a", "b"]
    assert list(name_detectors(("x/a", "y/a"))) == ["x/a", "y/a"]
    assert list(name_detectors(("x/a", "x/a"))) == ["x/a (1)", "x/a (2)"]
