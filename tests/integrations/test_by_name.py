from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from featlift.integrations.by_name import has_torchvision_interface, load_network_by_name

NETWORK = """
from torch import nn

SCALE = 2

class Net(nn.Sequential):
    pass

def build():
    return Net(nn.Conv2d(3, 4, 4, 4), nn.Upsample(scale_factor=SCALE), nn.Conv2d(4, 2, 1))

def number():
    return 3
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "my_network.py"
    path.write_text(NETWORK)
    return path


def test_a_function_of_a_file_and_weights(file: Path, tmp_path: Path):
    network = load_network_by_name(f"{file}:build")
    assert network(torch.rand(1, 3, 8, 8)).shape == (1, 2, 4, 4)
    assert not has_torchvision_interface(network)
    save_file({name: x + 1 for name, x in network.state_dict().items()}, tmp_path / "weights.safetensors")
    loaded = load_network_by_name(f"{file}:build", weights=str(tmp_path / "weights.safetensors"))
    assert not torch.equal(loaded[0].weight, load_network_by_name(f"{file}:build")[0].weight)  # type: ignore[index]


def test_a_function_of_a_package():
    assert isinstance(load_network_by_name("torchvision.models:resnet18"), nn.Module)


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("{file}:biuld", ValueError, r"has no function 'biuld'\. Did you mean 'build'"),
        ("{file}:number", TypeError, r"This int is no torch\.nn\.Module"),
        ("{file}:SCALE", ValueError, "has no function 'SCALE'"),
        ("missing.py:build", ValueError, r"There is no file missing\.py"),
        (
            "torchvison:resnet18",
            ValueError,
            r"neither one of torchvision:, timm:, hf:, ultralytics:.*Did you mean 'torchvision'",
        ),
        ("torchvision:resnet19", ValueError, r"has no model 'resnet19'\. Did you mean 'resnet1"),
        ("torchvision:fasterrcnn", ValueError, "has no model 'fasterrcnn'"),
        ("timm:resnet10x", ValueError, "has no network 'resnet10x'"),
        ("fastrcnn", ValueError, "neither a run folder nor a torchvision detector"),
    ],
)
def test_what_does_not_exist(name: str, error: type[Exception], message: str, file: Path):
    with pytest.raises(error, match=message):
        load_network_by_name(name.format(file=file))


def test_torchvision_and_timm():
    assert has_torchvision_interface(load_network_by_name("torchvision:ssdlite320_mobilenet_v3_large", num_classes=2))
    classifier = load_network_by_name("torchvision:squeezenet1_1")
    assert not has_torchvision_interface(classifier)
    assert load_network_by_name("timm:resnet10t").eval()(torch.rand(1, 3, 32, 32)).shape == (1, 1000)


def test_transformers(tmp_path: Path):
    transformers = pytest.importorskip("transformers")
    config = transformers.SegformerConfig(
        hidden_sizes=[8, 8, 8, 8], depths=[1] * 4, decoder_hidden_size=8, num_labels=2
    )
    network = transformers.SegformerForSemanticSegmentation(config).eval()
    config.save_pretrained(tmp_path / "bare")
    with pytest.raises(ValueError, match=r"names no class of transformers.*'architectures' \(none\)"):
        load_network_by_name(f"hf:{tmp_path / 'bare'}")
    network.save_pretrained(tmp_path / "model")
    loaded = load_network_by_name(f"hf:{tmp_path / 'model'}").eval()
    x = torch.rand(1, 3, 64, 64)
    assert torch.equal(loaded(x).logits, network(x).logits)
    network.config.save_pretrained(tmp_path / "random")
    assert not torch.equal(load_network_by_name(f"hf:{tmp_path / 'random'}").eval()(x).logits, network(x).logits)
    with pytest.raises(ValueError, match="is no model or configuration of Hugging Face"):
        load_network_by_name(f"hf:{tmp_path / 'missing'}")


def test_ultralytics(monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("ultralytics")
    assert type(load_network_by_name("ultralytics:yolo11n.yaml")).__name__ == "DetectionModel"
    with pytest.raises(ValueError, match=r"There is no file yolo11x\.pt\. --weights DEFAULT lets"):
        load_network_by_name("ultralytics:yolo11x.pt")
    with pytest.raises(ValueError, match=r"has no model 'yolo11nn\.yaml'"):
        load_network_by_name("ultralytics:yolo11nn.yaml")


def test_a_library_that_is_not_installed(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(__import__("sys").modules, "ultralytics", None)
    with pytest.raises(ImportError, match="ultralytics is not installed: pip install ultralytics"):
        load_network_by_name("ultralytics:yolo11n.yaml")
